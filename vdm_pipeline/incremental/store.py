"""The folder tree of a run: where things stand, staging, publishing in one rename, and whether they are still good."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental.check_results import CheckResult, read_check_results, write_check_results
from vdm_pipeline.io.atomic import remove_leftovers, replace_path, write_text
from vdm_pipeline.io.disk import check_room, disk_faults
from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.io.lock import holder, locked
from vdm_pipeline.io.manifest import Manifest, read_manifest, write_manifest


class Attempt(BaseModel):
    """Work that was begun so many times in one state of things, and is not done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: str
    times: int
    failed: bool


@dataclass(frozen=True)
class Store:
    """A project folder with ``data/`` and ``results/``."""

    root: Path

    @classmethod
    def from_environment(cls) -> "Store":
        """``$VDM_ROOT``, or the working directory; raises `PipelineError` if it is no folder, or one whose name has a line break."""
        root = Path(os.environ.get("VDM_ROOT") or Path.cwd()).resolve()
        if not root.is_dir():
            raise PipelineError(f"VDM_ROOT is {str(root)!r}, which is no folder; make it, or name another.")
        if len(str(root).splitlines()) > 1:
            raise PipelineError(f"VDM_ROOT is {str(root)!r}, whose name has a line break; name another folder.")
        return cls(root)

    def path(self, name: str) -> Path:
        """Absolute path of ``name`` such as ``results/labeled_dataset.csv``; raises `PipelineError` if it leaves the folder."""
        path = self.root / name
        path = Path(os.path.realpath(path.parent)) / path.name  # the last part may be a link, to an archive that lies elsewhere
        if not path.is_relative_to(self.root):
            link = next((part for part in (self.root / name).parents if part.is_symlink()), None)
            if link:
                raise PipelineError(f"{link} is a link that leads out of the project folder; move it away, or put the folder itself there.")
            raise PipelineError(f"'{name}' leaves the project folder {self.root}; take a path inside it.")
        return path

    def own(self, name: str) -> Path:
        """Like `path`, for what only this program writes, and may remove: raises `PipelineError` if a part of it is a link."""
        path = self.root
        for part in name.split("/"):
            path = path / part
            if path.is_symlink():
                raise PipelineError(f"{path} is a link to {os.readlink(path)!r}, and a place of our own is to be there; move it away.")
        return path

    def manifest(self, asset: str) -> Manifest | None:
        """The asset's last record, or None if it was never made."""
        return read_manifest(self._manifest_path(asset))

    def is_intact(self, manifest: Manifest) -> bool:
        """Whether every file of the record is there with its recorded content."""
        return all(self._is_good(name, digest) for name, digest in manifest.files.items())

    def intact_files(self, manifest: Manifest) -> list[Path]:
        """Files of the record that are there with their recorded content."""
        return [self.path(name) for name, digest in manifest.files.items() if self._is_good(name, digest)]

    def _is_good(self, name: str, digest: str) -> bool:
        path = self.path(name)
        return path.is_file() and file_sha256(path) == digest

    def staging(self, asset: str, outputs: Iterable[str], fingerprint: str) -> Path:
        """Folder beside the outputs where ``asset`` works; what an interrupted run with the same fingerprint left is kept."""
        place = f"{next(iter(outputs)).split('/')[0]}/.staging/{asset}"
        top, current = self.own(place), self.own(f"{place}/{fingerprint}")
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

    def begin_attempt(self, work: str, state: str) -> None:
        """Note that work, such as the making of an asset, begins in this state of things."""
        attempt = self.attempt(work)
        times = attempt.times + 1 if attempt and attempt.state == state else 1
        write_text(self._attempt_path(work), Attempt(state=state, times=times, failed=False).model_dump_json())

    def fail_attempt(self, work: str, state: str) -> None:
        """Note that it failed, or was stopped by hand."""
        attempt = self.attempt(work)
        write_text(self._attempt_path(work), Attempt(state=state, times=attempt.times if attempt else 1, failed=True).model_dump_json())

    def clear_attempt(self, work: str) -> None:
        """Forget that it was ever begun."""
        self._attempt_path(work).unlink(missing_ok=True)

    def assert_writable(self) -> None:
        """Raises `PipelineError` while nothing can be noted: what is begun and not noted would be begun again for ever."""
        with disk_faults(self.root):
            self.begin_attempt("a_note", "")
            self.clear_attempt("a_note")

    def attempt(self, work: str) -> Attempt | None:
        """What is noted of work that was begun and is not done; None also for a note that cannot be read."""
        path = self._attempt_path(work)
        try:
            return Attempt.model_validate_json(path.read_bytes()) if path.is_file() else None
        except ValidationError:
            return None

    def record(self, manifest: Manifest) -> None:
        """Write the record; the last step of a materialization."""
        write_manifest(self._manifest_path(manifest.asset), manifest)

    def check_results(self, asset: str) -> dict[str, CheckResult]:
        """What the asset's checks found the last time, by check."""
        return read_check_results(self._check_results_path(asset))

    def record_check_result(self, asset: str, check: str, result: CheckResult) -> None:
        """Remember what a check of the asset found, in place of what it found before."""
        write_check_results(self._check_results_path(asset), self.check_results(asset) | {check: result})

    @contextmanager
    def working(self, run_id: str, log: Callable[[str], None]) -> Iterator[None]:
        """Be the only one who works in this folder; while another run is, wait, and say so to ``log``.

        Raises `PipelineError` where the folder cannot be written to, or the disk is nearly full.
        """
        folder, lock = self.own("results"), self.own("results/.lock")

        def wait(other: dict[str, Any]) -> None:
            log(f"Run {other.get('run', '?')} (process {other.get('process', '?')}) works in {folder}; waiting for its end.")

        with ExitStack() as held:
            with disk_faults(folder):
                folder.mkdir(parents=True, exist_ok=True)
                check_room(folder)
                held.enter_context(locked(lock, {"run": run_id, "process": os.getpid()}, wait))
            yield

    def is_locked(self) -> bool:
        """Whether a run, of whichever instance, works in the folder now."""
        return holder(self.own("results/.lock")) is not None

    def is_locked_by(self, run_id: str) -> bool:
        """Whether this run is at work in the folder now."""
        return (holder(self.own("results/.lock")) or {}).get("run") == run_id

    def _check_results_path(self, asset: str) -> Path:
        return self.own(f"results/.manifests/{asset}.checks.json")

    def _attempt_path(self, work: str) -> Path:
        return self.own(f"results/.manifests/{work}.tried")

    def _manifest_path(self, asset: str) -> Path:
        return self.own(f"results/.manifests/{asset}.json")
