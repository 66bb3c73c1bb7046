"""The folders of a project: paths, staging, atomic publishing, manifests, and the lock of the running run."""

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
from vdm_pipeline.incremental.project_folder import is_project, not_a_project, owned_path
from vdm_pipeline.io.atomic import remove_leftovers, replace_path, try_write, write_text
from vdm_pipeline.io.disk import check_free_space, translate_disk_errors
from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.io.lock import lock_holder, locked
from vdm_pipeline.io.manifest import Manifest, read_manifest, write_manifest

LOCK = "results/.lock"
TOP, DEEP = ".*", "**/.*"
WRITTEN_IN = {
    **dict.fromkeys(("data", "results", "results/metrics"), TOP),
    **dict.fromkeys(("data/.staging", "results/.staging", "results/.training"), DEEP),
    **dict.fromkeys(("results/.manifests", "results/.cache"), DEEP),
}
"""Where killed runs may leave temporary files, with the pattern that finds them."""


class Attempt(BaseModel):
    """Work that started ``times`` times in one state and has not finished."""

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
        """``$VDM_ROOT``, or the working directory.

        Raises `PipelineError` if it is not a folder, or its name has a line break; and for a working
        directory that is not a project, so that a command in a wrong folder leaves nothing there.
        """
        named = os.environ.get("VDM_ROOT")
        root = Path(named or Path.cwd()).resolve()
        if not root.is_dir():
            raise PipelineError(
                f"VDM_ROOT is {str(root)!r}, which is not a folder; create it, or set another."
            )
        if len(str(root).splitlines()) > 1:
            raise PipelineError(
                f"VDM_ROOT is {str(root)!r}, whose name has a line break; set another folder."
            )
        if not named and not is_project(root):
            raise not_a_project(root)
        return cls(root)

    def path(self, name: str) -> Path:
        """Absolute path of ``name``, such as ``results/labeled_dataset.csv``.

        Raises `PipelineError` if it leaves the project folder.
        """
        path = self.root / name
        # Only the last part may be a link: to an archive that lies elsewhere.
        path = Path(os.path.realpath(path.parent)) / path.name
        if not path.is_relative_to(self.root):
            link = next((part for part in (self.root / name).parents if part.is_symlink()), None)
            if link:
                raise PipelineError(
                    f"{link} is a link that leads out of the project folder; "
                    "remove it, or put the folder itself there."
                )
            raise PipelineError(f"'{name}' leaves the project folder {self.root}; use a path inside it.")
        return path

    def owned_path(self, name: str) -> Path:
        """Like `path`, for files that only this program writes and may delete.

        Raises `PipelineError` if a part of the path is a link.
        """
        return owned_path(self.root, name)

    def manifest(self, asset: str) -> Manifest | None:
        """The asset's manifest, or None if it is not materialized."""
        return read_manifest(self._manifest_path(asset))

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest: the last step of a materialization."""
        write_manifest(self._manifest_path(manifest.asset), manifest)

    def is_intact(self, manifest: Manifest) -> bool:
        """Whether every file of the manifest exists with its recorded hash."""
        return all(_has_hash(path, sha256) for path, sha256 in self._recorded_files(manifest))

    def intact_files(self, manifest: Manifest) -> list[Path]:
        """Files of the manifest that exist with their recorded hash."""
        return [path for path, sha256 in self._recorded_files(manifest) if _has_hash(path, sha256)]

    def _recorded_files(self, manifest: Manifest) -> Iterator[tuple[Path, str]]:
        """Path and recorded sha256 of each file. Each folder is resolved once, as that reads the disk."""
        folders: dict[str, Path] = {}
        for name, sha256 in manifest.files.items():
            folder, _, last = name.rpartition("/")
            if folder not in folders:
                folders[folder] = self.path(name).parent
            yield folders[folder] / last, sha256

    def staging(self, asset: str, outputs: Iterable[str], fingerprint: str) -> Path:
        """Folder beside the outputs where ``asset`` is computed.

        Files of an interrupted run with the same fingerprint stay; other files are removed.
        """
        place = f"{next(iter(outputs)).split('/')[0]}/.staging/{asset}"
        top, current = self.owned_path(place), self.owned_path(f"{place}/{fingerprint}")
        if top.exists():
            for other in top.iterdir():
                if other != current:
                    shutil.rmtree(other)
        current.mkdir(parents=True, exist_ok=True)
        remove_leftovers(current)
        return current

    def publish(self, staging: Path, outputs: Iterable[str]) -> None:
        """Move each output from staging to its path. In staging it lies without ``data/`` or ``results/``."""
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

    def start_attempt(self, work: str, state: str) -> None:
        """Record that work, such as computing an asset, starts in this state."""
        attempt = self.attempt(work)
        times = attempt.times + 1 if attempt and attempt.state == state else 1
        self._write_attempt(work, Attempt(state=state, times=times, failed=False))

    def fail_attempt(self, work: str, state: str) -> None:
        """Record that the work failed, or was cancelled by hand."""
        attempt = self.attempt(work)
        self._write_attempt(work, Attempt(state=state, times=attempt.times if attempt else 1, failed=True))

    def clear_attempt(self, work: str) -> None:
        """Remove the record of the work's attempts."""
        self._attempt_path(work).unlink(missing_ok=True)

    def attempt(self, work: str) -> Attempt | None:
        """The unfinished attempts of the work; None also for a record that cannot be read."""
        path = self._attempt_path(work)
        try:
            return Attempt.model_validate_json(path.read_bytes()) if path.is_file() else None
        except ValidationError:
            return None

    def assert_writable(self) -> None:
        """Raise `PipelineError` if attempts cannot be recorded: unrecorded work would be retried for ever."""
        folder = self.owned_path("results/.manifests")
        with translate_disk_errors(self.root):
            try_write(folder)

    def check_results(self, asset: str) -> dict[str, CheckResult]:
        """The last results of the asset's checks, by check."""
        return read_check_results(self._check_results_path(asset))

    def record_check_result(self, asset: str, check: str, result: CheckResult) -> None:
        """Replace the last result of one check of the asset."""
        write_check_results(self._check_results_path(asset), self.check_results(asset) | {check: result})

    @contextmanager
    def lock(self, run_id: str, log: Callable[[str], None]) -> Iterator[None]:
        """Hold the project folder for one run. While another run holds it, wait and report that to ``log``.

        Raises `PipelineError` if the folder is not writable, or the disk is nearly full.
        """
        folder, path = self.owned_path("results"), self.owned_path(LOCK)

        def on_wait(other: dict[str, Any]) -> None:
            if other.get("run") == run_id:
                return  # another step of this run, in its own process
            holder = f"Run {other.get('run', '?')} (process {other.get('process', '?')})"
            log(f"{holder} is running in {folder}; waiting until it ends.")

        with ExitStack() as stack:
            with translate_disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                check_free_space(folder)
                stack.enter_context(locked(path, {"run": run_id, "process": os.getpid()}, on_wait))
                self._remove_leftovers()
            yield

    def _remove_leftovers(self) -> None:
        """Remove what killed runs left; a link is not followed."""
        for name, pattern in WRITTEN_IN.items():
            folder = self.root / name
            if folder.is_dir() and folder.resolve() == folder:
                remove_leftovers(folder, pattern)
        for path in (self.root / "results/.cache/matplotlib").glob("*.matplotlib-lock"):
            path.unlink()  # Matplotlib would wait for it, and never remove it

    def is_locked(self) -> bool:
        """Whether a run, of any Dagster instance, holds the folder now."""
        return lock_holder(self.owned_path(LOCK)) is not None

    def is_locked_by(self, run_id: str) -> bool:
        """Whether this run holds the folder now."""
        return (lock_holder(self.owned_path(LOCK)) or {}).get("run") == run_id

    def _write_attempt(self, work: str, attempt: Attempt) -> None:
        write_text(self._attempt_path(work), attempt.model_dump_json())

    def _check_results_path(self, asset: str) -> Path:
        return self.owned_path(f"results/.manifests/{asset}.checks.json")

    def _attempt_path(self, work: str) -> Path:
        return self.owned_path(f"results/.manifests/{work}.attempt")

    def _manifest_path(self, asset: str) -> Path:
        return self.owned_path(f"results/.manifests/{asset}.json")


def _has_hash(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256
