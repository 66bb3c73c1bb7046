"""The one way in which an asset is made or re-used, whichever door asked for it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.assets.catalogue import STAGES, code_version
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.manifest import Manifest, data_version
from vdm_pipeline.io.memory import peak_resident_mb
from vdm_pipeline.resources import Run
from vdm_pipeline.settings import fingerprint

Work = Callable[[Path], dict[str, Any]]
"""Writes the outputs into a staging folder and returns metadata: numbers, texts, and markdown under ``preview``.

`raw_npz`, whose archive is not ours to stage, is given the project folder and does not use it.
"""


def materialize(context: dg.AssetExecutionContext, run: Run, work: Work) -> dg.MaterializeResult:
    """Re-use the asset if its settings, code, inputs and files are those of its record; else do ``work`` and publish.

    A fault of the user's becomes a `dagster.Failure` with its sentence; nothing that stood before is touched by it.
    """
    try:
        return _materialize(context, run, work)
    except PipelineError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def _materialize(context: dg.AssetExecutionContext, run: Run, work: Work) -> dg.MaterializeResult:
    asset = context.asset_key.to_user_string()
    stage, outputs = STAGES[asset], [str(path.relative_to(run.store.root)) for path in run.paths(asset).values()]
    version = code_version(asset, run.profile)
    inputs = {name: _input_version(run, name) for name in stage.inputs}
    print_ = fingerprint(version, inputs)
    old = run.store.manifest(asset)
    looks_outside = not stage.inputs and not stage.outputs
    if old and not looks_outside and old.fingerprint == print_ and run.store.is_whole(old) and not run.forced(asset):
        context.log.info(f"{asset}: re-used, nothing upstream changed")
        return _result(old, reused=True)
    same = old is not None and old.fingerprint == print_ and not run.forced(asset)
    context.log.info(
        f"{asset}: looking at the archive" if same and looks_outside else f"{asset}: computing ({_why(old, print_, run, asset)})"
    )
    staging = run.store.root if looks_outside else run.store.staging(asset, outputs, print_)
    begun = time.perf_counter()
    metadata = work(staging)
    if not looks_outside:
        run.store.publish(staging, outputs)
    files = run.store.hashes(outputs)
    manifest = Manifest(
        asset=asset,
        fingerprint=print_,
        code_version=version,
        data_version=data_version({name: value for name, value in files.items() if name.startswith(stage.identity)}),
        inputs=inputs,
        files=files,
        settings=run.profile.model_dump(mode="json"),
        metadata=metadata,
        seconds=round(time.perf_counter() - begun, 3),
        peak_memory_mb=round(peak_resident_mb(), 1),
    )
    run.store.record(manifest)
    unchanged = same and looks_outside and old is not None and old.files == manifest.files
    if unchanged:
        context.log.info(f"{asset}: re-used, it is the same")
    return _result(manifest, reused=unchanged)


def _input_version(run: Run, name: str) -> str:
    manifest = run.store.manifest(name)
    if manifest is None:
        raise PipelineError(f"Asset {name} has no record in {run.store.root / 'results/.manifests'}; materialize it first.")
    return manifest.data_version


def _why(old: Manifest | None, print_: str, run: Run, asset: str) -> str:
    if old is None:
        return "never made"
    if run.forced(asset):
        return "forced"
    if old.fingerprint != print_:
        return "settings, code or inputs changed"
    return "its files were changed or are gone"


def _result(manifest: Manifest, *, reused: bool) -> dg.MaterializeResult:
    metadata: dict[str, Any] = {key: value for key, value in manifest.metadata.items() if key != "preview"}
    if "preview" in manifest.metadata:
        metadata["preview"] = dg.MetadataValue.md(manifest.metadata["preview"])
    metadata |= {"reused": reused, "seconds": manifest.seconds, "profile": manifest.settings["name"]}
    return dg.MaterializeResult(data_version=dg.DataVersion(manifest.data_version), metadata=metadata)


class Ticker:
    """Progress into Dagster's log, at most every ``seconds`` and at the end."""

    def __init__(self, context: dg.AssetExecutionContext, what: str, seconds: float = 5.0) -> None:
        self.context, self.what, self.seconds, self.last = context, what, seconds, time.perf_counter()

    def __call__(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` are done."""
        if done >= total or time.perf_counter() - self.last >= self.seconds:
            self.context.log.info(f"{self.what}: {done}/{total}")
            self.last = time.perf_counter()
