"""What stands, and what must be made: the one answer for a run, for the daemon, and for whoever asks.

An asset stands if it was made by the code, from the settings, model pins and inputs of now, and its files are those that
were recorded. Who edits, deletes or exchanges a file, or a setting, has it made again.
"""

import time

from vdm_pipeline.assets.catalogue import MEASURES, STAGES
from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.resources import Run
from vdm_pipeline.settings import fingerprint

SETTLED_S = 5.0
"""A file that was written to later than this long ago may still be on its way, and is waited for."""


def stands(run: Run, asset: str) -> Manifest | None:
    """The asset's record if it would be re-used now, or None."""
    manifest = run.store.manifest(asset)
    if manifest is None or not _inputs_are_known(run, asset) or manifest.fingerprint != run.fingerprint(asset):
        return None
    return manifest if run.store.is_whole(manifest) else None


def wanted(run: Run) -> set[str]:
    """Assets that are to be made now, and what may have to follow them.

    Not what was tried as it is now and failed or was stopped by hand; not what an input of it stands in the way of, because that
    is itself not to be had or a check stopped it; and no archive that the user has yet to put there, or is still writing.
    """
    found: set[str] = set()
    good = {asset for asset in STAGES if stands(run, asset)}
    for asset, stage in STAGES.items():
        at_rest = [name for name in stage.inputs if name not in found]
        blocked = any(name not in good or (asset not in MEASURES and run.stops(name)) for name in at_rest)
        follows = len(at_rest) < len(stage.inputs)
        if not blocked and (follows or (asset not in good and run.store.tried(asset) != state(run, asset) and _settled(run, asset))):
            found.add(asset)
    return found


def state(run: Run, asset: str) -> str:
    """Of all that decides what comes of making the asset: its fingerprint, and what lies outside, of an asset that looks there."""
    outside = [path.stat() for path in run.paths(asset).values() if path.exists()] if not STAGES[asset].inputs else []
    return fingerprint(run.fingerprint(asset), *(f"{found.st_ino} {found.st_size} {found.st_mtime_ns}" for found in outside))


def _inputs_are_known(run: Run, asset: str) -> bool:
    return all(run.store.manifest(name) for name in STAGES[asset].inputs)


def _settled(run: Run, asset: str) -> bool:
    """Whether what lies outside can be looked at: an archive that the user puts there is there, and nobody writes to it."""
    if STAGES[asset].inputs:
        return True
    paths = run.paths(asset).values()
    if asset == "raw_npz" and run.profile.data.source == "file" and not all(path.exists() for path in paths):
        return False
    return not any(abs(time.time() - path.stat().st_ctime) < SETTLED_S for path in paths if path.exists())
