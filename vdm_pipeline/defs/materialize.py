"""The one way in which an asset is made or re-used, whichever door asked for it."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import dagster as dg

from vdm_pipeline.defs.attempts import attempt
from vdm_pipeline.errors import NetworkError, OutdatedError, PipelineError
from vdm_pipeline.graph import STAGES, code_version, lineage, same_code
from vdm_pipeline.incremental.project import Inputs, Project
from vdm_pipeline.incremental.staleness import state, up_to_date_manifest
from vdm_pipeline.io.disk import disk_faults
from vdm_pipeline.io.manifest import Manifest, data_version
from vdm_pipeline.io.memory import forget_peak, peak_resident_mb


class Work(Protocol):
    """Writes a stage's outputs into a staging folder and returns metadata: numbers, texts, and markdown under ``preview``.

    `raw_npz`, whose archive is not ours to stage, is given the project folder and does not use it.
    """

    __name__: str

    def __call__(self, context: dg.AssetExecutionContext, run: Project, staging: Path, upstream: Inputs, /) -> dict[str, Any]:
        """Work; ``upstream`` are handles on the stage's inputs."""
        ...


FROM_UI = "dagster/from_ui"
NETWORK_WAITS_S = (30, 120)
"""Before the second and the third try of a step whose network did not answer."""


def materialize(context: dg.AssetExecutionContext, run: Project, work: Work) -> Iterator[dg.MaterializeResult]:
    """Re-use the asset if its settings, code, inputs and files are those of its record; else do ``work`` and publish.

    A fault of the user's becomes a `dagster.Failure` with its sentence; nothing that stood before is touched by it. A network
    that does not answer, and that alone, is tried again. Nothing is yielded by an asset that waits for the next click.
    """
    try:
        with disk_faults(run.store.root):
            yield _materialize(context, run, work)
    except PipelineError as error:
        if isinstance(error, OutdatedError) and _is_a_step_of_several(context):
            context.log.warning(f"{context.asset_key.to_user_string()}: waits. {error} Or press 'Materialize unsynced' again.")
            return
        if isinstance(error, NetworkError) and context.retry_number < len(NETWORK_WAITS_S):
            wait = NETWORK_WAITS_S[context.retry_number]
            context.log.warning(f"{error} Trying again in {wait} s.")
            raise dg.RetryRequested(max_retries=len(NETWORK_WAITS_S), seconds_to_wait=wait) from error
        raise dg.Failure(str(error), allow_retries=False) from None


def _is_a_step_of_several(context: dg.AssetExecutionContext) -> bool:
    """Whether the UI's run has made something that this asset is made from, but was not asked for all in between.

    What Dagster calls unsynced is one step: the assets whose settings changed, not yet those that will change with them. So its
    button takes as many clicks as there are steps, and the report is not refused in the first.
    """
    return FROM_UI in context.run.tags and bool(_made_so_far(context) & lineage(context.asset_key.to_user_string()))


def _made_so_far(context: dg.AssetExecutionContext) -> set[str]:
    """Assets that this run has made, not re-used; Dagster is asked, as each step may be a process of its own."""
    events = context.instance.all_logs(context.run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    ray_device_metadata = [event.asset_materialization for event in events if event.asset_materialization]
    return {one.asset_key.to_user_string() for one in ray_device_metadata if one.metadata["reused"].value is False}


def _materialize(context: dg.AssetExecutionContext, run: Project, work: Work) -> dg.MaterializeResult:
    asset = context.asset_key.to_user_string()
    upstream = run.inputs(asset)
    forced = run.forced(asset, context.run.tags)
    old = None if forced else up_to_date_manifest(run, asset)
    if old:
        run.reused.append(asset)
        return _result(run, old, reused=True)
    context.log.info(f"{asset}: computing ({_why(run, asset, forced)})")
    with attempt(context, run, asset, state(run, asset)):
        manifest = _make(run, asset, lambda staging: work(context, run, staging, upstream))
    return _result(run, manifest, reused=False)


def _make(run: Project, asset: str, work: Callable[[Path], dict[str, Any]]) -> Manifest:
    """Work, publish, and record."""
    stage, outputs = STAGES[asset], [str(path.relative_to(run.store.root)) for path in run.paths(asset).values()]
    print_ = run.fingerprint(asset)
    inputs = run.input_versions(asset)
    staging = run.store.staging(asset, outputs, print_) if stage.outputs else run.store.root
    forget_peak()
    begun = time.perf_counter()
    with _inputs_stand(run, asset, staging) if stage.inputs else nullcontext():
        metadata = work(staging)
    if stage.outputs:
        run.store.publish(staging, outputs)
    files = run.store.hashes(outputs)
    manifest = Manifest(
        asset=asset,
        fingerprint=print_,
        code_version=code_version(asset, run.profile),
        data_version=data_version({name: value for name, value in files.items() if name.startswith(stage.identity)}),
        inputs=inputs,
        files=files,
        settings=run.profile.model_dump(mode="json"),
        metadata=metadata,
        seconds=round(time.perf_counter() - begun, 3),
        peak_memory_mb=round(peak_resident_mb(), 1),
    )
    run.store.record(manifest)
    return manifest


@contextmanager
def _inputs_stand(run: Project, asset: str, staging: Path) -> Iterator[None]:
    """Raise `PipelineError` if an input is not what it was when the work began; what was made from it is not kept."""
    try:
        yield
    except Exception:
        _check_inputs(run, asset, staging)  # what was changed is why it failed
        raise
    _check_inputs(run, asset, staging)


def _check_inputs(run: Project, asset: str, staging: Path) -> None:
    try:
        run.inputs(asset)
    except PipelineError as error:
        for place in (staging, *(run.store.own(name) for name in STAGES[asset].kept)):
            if place.exists():
                shutil.rmtree(place)
        raise PipelineError(f"While {asset} was made from it: {error}") from None


def _why(run: Project, asset: str, forced: bool) -> str:
    old = run.store.manifest(asset)
    if forced:
        return "forced"
    if old is None:
        return "never made"
    if not same_code(asset, old.code_version):
        return "its code is new"
    if old.code_version != code_version(asset, run.profile):
        return "its settings or models changed"
    changed = [name for name, version in run.input_versions(asset).items() if old.inputs.get(name) != version]
    return f"{', '.join(changed)} changed" if changed else "its files were changed or are gone"


def _result(run: Project, manifest: Manifest, *, reused: bool) -> dg.MaterializeResult:
    """What Dagster shows of the asset: where it stands, what it cost when it was made, and its facts."""
    facts: dict[str, Any] = {key: value for key, value in manifest.metadata.items() if key != "preview"}
    if "preview" in manifest.metadata:
        facts["preview"] = dg.MetadataValue.md(manifest.metadata["preview"])
    facts |= {role: dg.MetadataValue.path(path) for role, path in run.paths(manifest.asset).items()}
    cost = {"seconds": manifest.seconds, "peak_memory_mb": manifest.peak_memory_mb}
    facts |= cost | {"reused": reused, "profile": manifest.settings.get("name", "unknown")}
    return dg.MaterializeResult(data_version=dg.DataVersion(manifest.data_version), metadata=facts)
