"""The folder tree of a run: where things stand, staging, publishing in one rename, and whether they are still good."""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import remove_leftovers, replace_path, write_text
from vdm_pipeline.io.manifest import Manifest, file_sha256, read_manifest, write_manifest


@dataclass(frozen=True)
class Store:
    """A project folder with ``data/`` and ``results/``."""

    root: Path

    @classmethod
    def from_environment(cls) -> "Store":
        """``$VDM_ROOT``, or the working directory."""
        return cls(Path(os.environ.get("VDM_ROOT") or Path.cwd()).resolve())

    def path(self, name: str) -> Path:
        """Absolute path of ``name`` such as ``results/labeled_dataset.csv``; raises `PipelineError` if it leaves the folder."""
        path = self.root / name
        path = path.parent.resolve() / path.name  # the last part may be a link, to an archive that lies elsewhere
        if not path.is_relative_to(self.root):
            raise PipelineError(f"'{name}' leaves the project folder {self.root}; take a path inside it.")
        return path

    def manifest(self, asset: str) -> Manifest | None:
        """The asset's last record, or None if it was never made."""
        return read_manifest(self._manifest_path(asset))

    def is_whole(self, manifest: Manifest) -> bool:
        """Whether every file of the record is there with its recorded content."""
        return all(self.path(n).is_file() and file_sha256(self.path(n)) == h for n, h in manifest.files.items())

    def staging(self, asset: str, outputs: Iterable[str], fingerprint: str) -> Path:
        """Folder beside the outputs where ``asset`` works; what an interrupted run with the same fingerprint left is kept."""
        top = self.path(next(iter(outputs)).split("/")[0]) / ".staging" / asset
        current = top / fingerprint
        if top.exists():
            for other in top.iterdir():
                if other != current:
                    shutil.rmtree(other)
        current.mkdir(parents=True, exist_ok=True)
        remove_leftovers(current)
        return current

    def publish(self, staging: Path, outputs: Iterable[str]) -> None:
        """Move each output from staging (there without its first part, ``data`` or ``results``) to its place."""
        outputs = list(outputs)
        missing = [name for name in outputs if not (staging / name.split("/", 1)[1]).exists()]
        if missing:
            raise PipelineError(f"The stage did not write {', '.join(missing)}; nothing was published.")
        for name in outputs:
            replace_path(staging / name.split("/", 1)[1], self.path(name))
            remove_leftovers(self.path(name).parent, f".{self.path(name).name}.*")
        shutil.rmtree(staging.parent)

    def hashes(self, outputs: Iterable[str]) -> dict[str, str]:
        """Sha256 of every file under the outputs, by path relative to the project folder."""
        files: dict[str, str] = {}
        for name in outputs:
            top = self.path(name)
            for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
                if path.is_file():
                    files[path.relative_to(self.root).as_posix()] = file_sha256(path)
        return files

    def record(self, manifest: Manifest) -> None:
        """Write the record; the last step of a materialization."""
        write_manifest(self._manifest_path(manifest.asset), manifest)

    def note_check(self, asset: str, check: str, version: str, fault: str | None) -> None:
        """Remember that a blocking check stopped this data version of the asset and why, or that it let it pass."""
        path = self.path(f"results/.manifests/{asset}.stopped.json")
        stopped = self.stopped(asset, version)
        stopped.pop(check, None)
        write_text(path, json.dumps({"data_version": version, "stopped": stopped | ({check: fault} if fault else {})}, indent=1))

    def stopped(self, asset: str, version: str) -> dict[str, str]:
        """What blocking checks found wrong with this data version of the asset, by check."""
        path = self.path(f"results/.manifests/{asset}.stopped.json")
        if not path.is_file():
            return {}
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            return dict(kept["stopped"]) if kept["data_version"] == version else {}
        except (ValueError, KeyError, TypeError):
            raise PipelineError(f"{path} is damaged; delete it, and run the checks of {asset} again.") from None

    def _manifest_path(self, asset: str) -> Path:
        return self.path(f"results/.manifests/{asset}.json")
