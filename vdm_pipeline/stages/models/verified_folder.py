"""A cached folder of model files with a record of their hashes, in the assets cache of `huggingface_hub`."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vdm_pipeline.io.atomic import remove_leftovers, write_text
from vdm_pipeline.io.hashing import folder_hashes
from vdm_pipeline.io.lock import locked
from vdm_pipeline.io.progress import Log


@dataclass(frozen=True)
class VerifiedFolder:
    """A folder whose record holds the sha256 of each file. The record is written last."""

    path: Path
    record_name: str
    hashes_key: str | None = None
    """Key of the hashes in the record. None if the record is the hashes."""

    @classmethod
    def in_cache(
        cls, namespace: str, name: str, record_name: str, hashes_key: str | None = None
    ) -> "VerifiedFolder":
        """``HF_HOME/assets/vdm_pipeline/<namespace>/<name>``, created if it is missing."""
        from huggingface_hub import cached_assets_path

        path = cached_assets_path("vdm_pipeline", namespace=namespace, subfolder=name)
        return cls(Path(path), record_name, hashes_key)

    def at(self, path: Path) -> "VerifiedFolder":
        """The same kind of folder at another path."""
        return replace(self, path=path)

    @contextmanager
    def lock(self, log: Log, waiting: str) -> Iterator[None]:
        """Lock the folder against other processes; logs ``waiting`` while another process holds the lock.

        Removes what killed processes left in the folder and beside it.
        """
        with locked(self.path.with_name(f".{self.path.name}.lock"), {}, lambda _: log(waiting)):
            remove_leftovers(self.path)
            remove_leftovers(self.path.parent, f".{self.path.name}.*")
            yield

    def is_intact(self, required: Mapping[str, str] | None = None) -> bool:
        """Whether all files have the recorded hashes, and the ``required`` ones are among them."""
        recorded = self._recorded_hashes()
        if not isinstance(recorded, dict) or recorded != folder_hashes(self.path):
            return False
        return recorded.items() >= (required or {}).items()

    def write_record(self, facts: Mapping[str, Any] | None = None) -> None:
        """Record the hashes of all files; ``facts`` go beside them if the hashes have a key."""
        hashes = folder_hashes(self.path)
        record = {**(facts or {}), self.hashes_key: hashes} if self.hashes_key else hashes
        write_text(self.path / self.record_name, json.dumps(record, indent=1))

    def _recorded_hashes(self) -> Any:
        """The hashes in the record, or None if it is missing or damaged."""
        try:
            record = json.loads((self.path / self.record_name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if self.hashes_key is None:
            return record
        return record.get(self.hashes_key) if isinstance(record, dict) else None
