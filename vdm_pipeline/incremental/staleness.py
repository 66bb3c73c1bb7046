"""Which assets are up to date, and which ones the daemon requests.

An asset is up to date if its manifest has the current fingerprint (code version and data versions of its
inputs) and its files have the recorded hashes. Otherwise it is stale.
"""

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.graph import IGNORES_BLOCKING_CHECKS, STAGES, checks_of
from vdm_pipeline.incremental.project import BlockingFailure, BlockReason, Project
from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.io.zip_copy import missing_part
from vdm_pipeline.settings import fingerprint

MAX_ATTEMPTS = 3
"""How often killed work is started. Without a limit, work that runs out of memory would start for ever."""
RETRY = "The sensor retries when settings or inputs change; or start the run yourself."


def up_to_date_manifest(project: Project, asset: str) -> Manifest | None:
    """The asset's manifest if the asset is up to date, else None. A run checks the inputs before."""
    manifest = project.store.manifest(asset)
    if manifest is None or not _inputs_are_materialized(project, asset):
        return None
    if manifest.fingerprint != project.fingerprint(asset) or not manifest.versions:  # of an older release
        return None
    outputs_exist = all(path.exists() for path in project.paths(asset).values())
    return manifest if outputs_exist and project.store.is_intact(manifest) else None


def has_usable_inputs(project: Project, asset: str) -> bool:
    """Whether a run could read the asset's inputs now: they are up to date, and no check blocks them."""
    try:
        project.upstream(asset)
    except PipelineError:
        return False
    return True


def stale_assets(project: Project) -> set[str]:
    """Assets to compute or check now, and everything downstream of them.

    Leaves out assets that failed in their current state, were cancelled by hand, or were killed
    `MAX_ATTEMPTS` times; assets with a missing or blocked input, or with such an ancestor; and an archive
    that is absent or incomplete.
    """
    stale: set[str] = set()
    outdated: set[str] = set()  # not current, and no run can change that
    up_to_date = {asset for asset in STAGES if up_to_date_manifest(project, asset)}
    failures = {asset: project.blocking_failures(asset) for asset in up_to_date}
    for asset, stage in STAGES.items():  # inputs come before their users
        fixed_inputs = [name for name in stage.inputs if name not in stale]
        inputs_change = len(fixed_inputs) < len(stage.inputs)
        ignores_checks = asset in IGNORES_BLOCKING_CHECKS
        blocked = any(failures.get(name) and not ignores_checks for name in fixed_inputs)
        unusable = blocked or not outdated.isdisjoint(fixed_inputs)
        if not unusable and (
            inputs_change
            or _needs_computing(project, asset, asset in up_to_date)
            or _needs_checking(project, asset, failures.get(asset, []))
        ):
            stale.add(asset)
        elif asset not in up_to_date or inputs_change or not outdated.isdisjoint(fixed_inputs):
            outdated.add(asset)
    return stale


def _needs_computing(project: Project, asset: str, up_to_date: bool) -> bool:
    if up_to_date or (asset == "raw_npz" and archive_obstacle(project)):
        return False
    return not _attempts_exhausted(project, asset, attempt_state(project, asset))


def _needs_checking(project: Project, asset: str, failures: list[BlockingFailure]) -> bool:
    if not any(failure.reason is BlockReason.NOT_RUN for failure in failures):
        return False
    return not _attempts_exhausted(project, f"{asset}_checks", check_state(project, asset))


def _attempts_exhausted(project: Project, work: str, state: str) -> bool:
    attempt = project.store.attempt(work)
    return (
        attempt is not None and attempt.state == state and (attempt.failed or attempt.times >= MAX_ATTEMPTS)
    )


def attempt_state(project: Project, asset: str) -> str:
    """Hash of all that decides whether computing the asset succeeds.

    These are its fingerprint, the execution settings and, for an asset without inputs, its external files.
    """
    external = (
        [] if STAGES[asset].inputs else [path for path in project.paths(asset).values() if path.exists()]
    )
    stats = [path.stat() for path in external]
    seen = [f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns}" for stat in stats]
    return fingerprint(project.fingerprint(asset), project.profile.execution, *seen)


def check_state(project: Project, asset: str) -> str:
    """Hash of all that decides the results of the asset's checks."""
    return fingerprint(*(project.check_fingerprint(check) for check in checks_of(asset)))


def _inputs_are_materialized(project: Project, asset: str) -> bool:
    return all(project.store.manifest(name) for name in STAGES[asset].inputs)


def archive_obstacle(project: Project) -> str | None:
    """Why a user's archive cannot be read now: it is absent, or not copied completely. None if it can.

    Its content decides, not its age: a slow copy rests for any time.
    """
    source, path = project.profile.data.source, project.paths("raw_npz")["archive"]
    if source == "phantom":
        return None
    if not path.exists():
        return f"{path} is missing; put the archive there." if source == "file" else None
    missing = missing_part(path) if path.is_file() else None
    return (
        f"{path} is not complete: {missing}. The sensor waits until the copy is complete. "
        "If copying has ended, copy the file again."
        if missing
        else None
    )


def obstacles(project: Project) -> list[str]:
    """Why stale assets are not requested; for a tick that requests nothing."""
    return [sentence for asset in STAGES for sentence in _obstacles_of(project, asset)]


def _obstacles_of(project: Project, asset: str) -> list[str]:
    if up_to_date_manifest(project, asset):
        failures = project.blocking_failures(asset)
        failed = [failure for failure in failures if failure.reason is BlockReason.FAILED]
        sentences = [failure.message(asset) for failure in failed]
        not_run = len(failed) < len(failures)
        return sentences + ([f"The checks of {asset} failed or were stopped. {RETRY}"] if not_run else [])
    if asset == "raw_npz" and (obstacle := archive_obstacle(project)):
        return [obstacle]
    if not _inputs_are_materialized(project, asset):
        return []
    exhausted = _attempts_exhausted(project, asset, attempt_state(project, asset))
    return [f"{asset} failed or was stopped. {RETRY}"] if exhausted else []
