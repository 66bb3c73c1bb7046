"""Materialize an asset: skip it if it is up to date; else compute it, publish its files and record them."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import dagster as dg

from vdm_pipeline.defs.attempts import attempt
from vdm_pipeline.defs.one_line_results import one_line_result
from vdm_pipeline.errors import NetworkError, PipelineError, StaleAssetError
from vdm_pipeline.graph import STAGES, code_version, has_current_stage_version, lineage
from vdm_pipeline.graph import outputs as output_paths
from vdm_pipeline.incremental.data_versions import data_versions
from vdm_pipeline.incremental.project import Project, Upstream
from vdm_pipeline.incremental.staleness import attempt_state, up_to_date_manifest
from vdm_pipeline.io.disk import translate_disk_errors
from vdm_pipeline.io.manifest import Manifest, data_version
from vdm_pipeline.io.memory import peak_resident_mb, reset_peak_memory


class Work(Protocol):
    """Writes a stage's outputs into a staging folder and returns metadata.

    ``preview`` is Markdown, and ``inline`` holds short Markdown by key, which the UI's overview shows.

    `raw_npz` is given the project folder instead: the archive may be the user's file, which must stay there.
    """

    __name__: str

    def __call__(
        self, context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream, /
    ) -> dict[str, Any]:
        """Do the work; ``upstream`` holds handles on the stage's inputs."""
        ...


FROM_UI = "dagster/from_ui"
NETWORK_RETRY_S = (30, 120)
"""Waits before the second and third attempt of a step whose network failed."""


def materialize(
    context: dg.AssetExecutionContext, project: Project, work: Work
) -> Iterator[dg.MaterializeResult]:
    """Skip the asset if it is up to date; else do ``work`` and publish its outputs.

    A `PipelineError` becomes a `dagster.Failure` with its sentence; the outputs of the last materialization
    stay. Only network errors are retried. In a run of the UI's "Materialize unsynced", an asset with a stale
    input yields nothing but a warning.
    """
    try:
        with translate_disk_errors(project.store.root):
            yield _materialize(context, project, work)
    except PipelineError as error:
        if isinstance(error, StaleAssetError) and _is_partial_ui_run(context):
            name = context.asset_key.to_user_string()
            context.log.warning(
                f"{name} is skipped for now: an input is stale. Press 'Materialize unsynced' again."
            )
            return
        if isinstance(error, NetworkError) and context.retry_number < len(NETWORK_RETRY_S):
            wait = NETWORK_RETRY_S[context.retry_number]
            context.log.warning(f"{error} Retrying in {wait} s.")
            raise dg.RetryRequested(max_retries=len(NETWORK_RETRY_S), seconds_to_wait=wait) from error
        raise dg.Failure(str(error), allow_retries=False) from None


def _is_partial_ui_run(context: dg.AssetExecutionContext) -> bool:
    """Whether the UI's run computed an ancestor of this asset, but did not select all assets in between.

    Dagster marks only assets whose own settings or direct inputs changed, so its button has to be pressed
    repeatedly. Until then, an asset with a stale input must not fail the run.
    """
    ancestors = lineage(context.asset_key.to_user_string())
    return FROM_UI in context.run.tags and bool(_computed_in_run(context) & ancestors)


def _computed_in_run(context: dg.AssetExecutionContext) -> set[str]:
    """Assets that this run computed. Read from Dagster's events, as each step may be its own process."""
    entries = context.instance.all_logs(context.run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    events = [entry.asset_materialization for entry in entries if entry.asset_materialization]
    return {event.asset_key.to_user_string() for event in events if event.metadata["skipped"].value is False}


def _materialize(context: dg.AssetExecutionContext, project: Project, work: Work) -> dg.MaterializeResult:
    asset = context.asset_key.to_user_string()
    upstream = project.upstream(asset)
    forced = project.forced(asset, context.run.tags)
    manifest = None if forced else up_to_date_manifest(project, asset)
    if manifest:
        project.store.clear_attempt(asset)
        project.skipped.append(asset)
        return _result(project, manifest, skipped=True)
    context.log.info(f"{asset}: computing ({_reason(project, asset, forced)})")
    with attempt(context, project, asset, attempt_state(project, asset)):
        manifest = _compute(project, asset, lambda staging: work(context, project, staging, upstream))
    return _result(project, manifest, skipped=False)


def _compute(project: Project, asset: str, work: Callable[[Path], dict[str, Any]]) -> Manifest:
    """Work in a staging folder, publish the outputs, and write the manifest last."""
    stage = STAGES[asset]
    outputs = output_paths(asset, project.profile)
    fingerprint, inputs = project.fingerprint(asset), project.input_versions(asset)
    staging = (
        project.store.staging(asset, outputs.values(), fingerprint) if stage.outputs else project.store.root
    )
    reset_peak_memory()
    start = time.perf_counter()
    with _fail_if_inputs_change(project, asset, staging) if stage.inputs else nullcontext():
        metadata = work(staging)
    if stage.outputs:
        project.store.publish(staging, outputs.values())
    files = project.store.hashes(outputs.values())
    versions = data_versions(project.store, asset, outputs, files)
    manifest = Manifest(
        asset=asset,
        fingerprint=fingerprint,
        code_version=code_version(asset, project.profile),
        data_version=data_version(versions),
        versions=versions,
        inputs=inputs,
        files=files,
        settings=project.profile.model_dump(mode="json"),
        metadata=metadata,
        seconds=round(time.perf_counter() - start, 3),
        peak_memory_mb=round(peak_resident_mb(), 1),
    )
    project.store.write_manifest(manifest)
    return manifest


@contextmanager
def _fail_if_inputs_change(project: Project, asset: str, staging: Path) -> Iterator[None]:
    """Raise `PipelineError` and drop the work if an input changed while the work ran."""
    try:
        yield
    except Exception:
        _discard_if_inputs_changed(project, asset, staging)  # the changed input is the better explanation
        raise
    _discard_if_inputs_changed(project, asset, staging)


def _discard_if_inputs_changed(project: Project, asset: str, staging: Path) -> None:
    try:
        project.upstream(asset)
    except PipelineError as error:
        scratch = [project.store.owned_path(name) for name in STAGES[asset].scratch]
        for folder in (staging, *scratch):
            if folder.exists():
                shutil.rmtree(folder)
        raise PipelineError(f"An input changed while {asset} was computed: {error}") from None


def _reason(project: Project, asset: str, forced: bool) -> str:
    manifest = project.store.manifest(asset)
    if forced:
        return "forced"
    if manifest is None:
        return "not materialized yet"
    if not has_current_stage_version(asset, manifest.code_version):
        return "its code changed"
    if manifest.code_version != code_version(asset, project.profile):
        return "its settings or models changed"
    versions = project.input_versions(asset)
    changed = [name for name, version in versions.items() if manifest.inputs.get(name) != version]
    return f"{', '.join(changed)} changed" if changed else "its files changed or are missing"


def _result(project: Project, manifest: Manifest, *, skipped: bool) -> dg.MaterializeResult:
    """What Dagster shows of the asset: its paths, its metadata, and the cost of computing it."""
    metadata = dict(manifest.metadata)
    texts = dict(metadata.pop("inline", {}))
    if "preview" in metadata:
        texts["preview"] = metadata.pop("preview")
    result = {"result": one_line_result(manifest.asset, manifest.metadata)}
    metadata = result | {key: dg.MetadataValue.md(text) for key, text in texts.items()} | metadata
    paths = project.paths(manifest.asset)
    metadata |= {role: dg.MetadataValue.path(path) for role, path in paths.items()}
    metadata |= {"seconds": manifest.seconds, "peak_memory_mb": manifest.peak_memory_mb}
    metadata |= {"skipped": skipped, "profile": manifest.settings.get("name", "unknown")}
    return dg.MaterializeResult(data_version=dg.DataVersion(manifest.data_version), metadata=metadata)
