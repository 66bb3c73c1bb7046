"""What stands, and what must be made: the one answer for a run, for the daemon, and for whoever asks.

An asset stands if it was made by the code, from the settings, model pins and inputs of now, and its files are those that
were recorded. Who edits, deletes or exchanges a file, or a setting, has it made again.
"""

import time

from vdm_pipeline.graph import IGNORES_BLOCKING_CHECKS, STAGES, checks_of
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.settings import fingerprint

MAX_ATTEMPTS = 3
"""So often is work begun that is killed each time; without a limit, one that runs out of memory would be begun for ever."""
SETTLED_S = 5.0
"""A file that was written to later than this long ago may still be on its way, and is waited for."""


def up_to_date_manifest(run: Project, asset: str) -> Manifest | None:
    """The asset's record if it would be re-used now, or None."""
    manifest = run.store.manifest(asset)
    if manifest is None or not _inputs_are_known(run, asset) or manifest.fingerprint != run.fingerprint(asset):
        return None
    there = all(path.exists() for path in run.paths(asset).values())
    return manifest if there and run.store.is_intact(manifest) else None


def stale_assets(run: Project) -> set[str]:
    """Assets that are to be made or checked now, and what may have to follow them.

    Not what failed as it is now, was stopped by hand, or was killed three times; not what an input of it stands in the way of,
    because that is itself not to be had or a check stopped it; and no archive that the user has yet to put there, or is still
    writing.
    """
    found: set[str] = set()
    good = {asset for asset in STAGES if up_to_date_manifest(run, asset)}
    failures = {asset: run.blocking_failures(asset) for asset in good}
    for asset, stage in STAGES.items():
        at_rest = [name for name in stage.inputs if name not in found]
        blocked = any(name not in good or (failures[name] and asset not in IGNORES_BLOCKING_CHECKS) for name in at_rest)
        if not blocked and (len(at_rest) < len(stage.inputs) or _is_due(run, asset, failures.get(asset))):
            found.add(asset)
    return found


def _is_due(run: Project, asset: str, failures: dict[str, str | None] | None) -> bool:
    """Whether an asset that does not stand (``failures`` is None), or that a check has not looked at, is to be asked for."""
    if failures is None:
        return _settled(run, asset) and not _is_given_up(run, asset, state(run, asset))
    return None in failures.values() and not _is_given_up(run, f"{asset}_checks", check_state(run, asset))


def _is_given_up(run: Project, work: str, now: str) -> bool:
    attempt = run.store.attempt(work)
    return attempt is not None and attempt.state == now and (attempt.failed or attempt.times >= MAX_ATTEMPTS)


def state(run: Project, asset: str) -> str:
    """Of all that decides what comes of making the asset: fingerprint, execution, and what lies outside, if it looks there."""
    outside = [path.stat() for path in run.paths(asset).values() if path.exists()] if not STAGES[asset].inputs else []
    seen = [f"{found.st_ino} {found.st_size} {found.st_mtime_ns}" for found in outside]
    return fingerprint(run.fingerprint(asset), run.profile.execution, *seen)


def check_state(run: Project, asset: str) -> str:
    """Of all that decides what the asset's checks find."""
    return fingerprint(*(run.check_fingerprint(check) for check in checks_of(asset)))


def _inputs_are_known(run: Project, asset: str) -> bool:
    return all(run.store.manifest(name) for name in STAGES[asset].inputs)


def _settled(run: Project, asset: str) -> bool:
    """Whether what lies outside can be looked at: an archive that the user puts there is there, and nobody writes to it."""
    if STAGES[asset].inputs:
        return True
    paths = run.paths(asset).values()
    if asset == "raw_npz" and run.profile.data.source == "file" and not all(path.exists() for path in paths):
        return False
    return not any(abs(time.time() - path.stat().st_ctime) < SETTLED_S for path in paths if path.exists())
