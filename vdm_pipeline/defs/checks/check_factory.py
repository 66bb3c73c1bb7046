"""From a function that examines an asset to a Dagster asset check. Results for the same data are reused."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.attempts import attempt
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.graph import CHECKS, CheckSpec
from vdm_pipeline.incremental.check_results import CheckResult
from vdm_pipeline.incremental.project import AssetHandle, Project, Upstream
from vdm_pipeline.incremental.staleness import check_state
from vdm_pipeline.io.disk import translate_disk_errors

if TYPE_CHECKING:
    from vdm_pipeline.stages.check_outcome import CheckOutcome

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN

Examine = Callable[[Project, Upstream], "CheckOutcome"]
"""Examines assets by their handles."""
Severity = Callable[[Project, "CheckOutcome"], dg.AssetCheckSeverity]


@dataclass(frozen=True)
class Check:
    """One check of an asset; ``name`` is its key in `vdm_pipeline.graph.CHECKS`. WARN never blocks."""

    asset: str
    name: str
    description: str
    examine: Examine
    severity: Severity = lambda project, outcome: ERROR

    @property
    def spec(self) -> CheckSpec:
        """The check without Dagster."""
        return CHECKS[self.asset, self.name]

    @property
    def dagster_spec(self) -> dg.AssetCheckSpec:
        """The check as Dagster knows it."""
        return dg.AssetCheckSpec(
            self.name,
            asset=self.asset,
            additional_deps=list(self.spec.reads),
            blocking=self.spec.blocking,
            description=self.description,
        )


def check(asset: str, examine: Examine, severity: Severity = lambda project, outcome: ERROR) -> Check:
    """A check with the name and docstring of its function."""
    return Check(asset, examine.__name__, examine.__doc__ or "", examine, severity)


def warn_only(project: Project, outcome: "CheckOutcome") -> dg.AssetCheckSeverity:
    """Severity of a check that never blocks."""
    return WARN


def build_asset_checks(asset: str, checks: Sequence[Check]) -> dg.AssetChecksDefinition:
    """All checks of an asset as one step; each can be selected individually.

    One step, so that checks whose results are reused cost almost nothing.
    """

    @dg.multi_asset_check(
        specs=[check.dagster_spec for check in checks], name=f"{asset}_checks", can_subset=True
    )
    def run_checks(
        context: dg.AssetCheckExecutionContext, project: dg.ResourceParam[Project]
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.op_execution_context.selected_asset_check_keys}
        chosen = [check for check in checks if check.name in selected]
        forced = project.forced(asset, context.run.tags)
        try:
            with (
                translate_disk_errors(project.store.root),
                _attempt_of_checks(context, project, asset, chosen, forced),
            ):
                yield from _results(project, chosen, forced)
        except PipelineError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        _fail_if_blocked(project, asset, selected)

    return run_checks


def _attempt_of_checks(
    context: dg.AssetCheckExecutionContext,
    project: Project,
    asset: str,
    checks: Sequence[Check],
    forced: bool,
) -> AbstractContextManager[None]:
    """Record an attempt, unless each check has a result already."""
    work = f"{asset}_checks"
    if forced or not all(project.check_result(check.spec) for check in checks):
        return attempt(context, project, work, check_state(project, asset))
    project.store.clear_attempt(work)  # left by a run that was killed at its end
    return nullcontext()


class BlockingChecksFailed(dg.Failure):
    """The terminal knows it by its name, as it has shown the results of the checks."""


def _fail_if_blocked(project: Project, asset: str, selected: set[str]) -> None:
    """Fail the step with the checks' sentences. Dagster would only say how many blocking checks failed."""
    failures = [one for one in project.blocking_failures(asset) if one.check in selected]
    if failures:
        raise BlockingChecksFailed("; ".join(one.message(asset) for one in failures), allow_retries=False)


def _results(project: Project, checks: Sequence[Check], forced: bool) -> Iterator[dg.AssetCheckResult]:
    asset_handle = cache(project.asset_handle)
    for check in checks:
        result = _result(project, check, asset_handle, forced)
        yield dg.AssetCheckResult(
            passed=result.passed,
            check_name=check.name,
            asset_key=check.asset,
            description=result.sentence,
            metadata=result.figures,
            severity=dg.AssetCheckSeverity[result.severity],
        )


def _result(
    project: Project, check: Check, asset_handle: Callable[[str], AssetHandle], forced: bool
) -> CheckResult:
    """The recorded result for this data and these settings, or a new one, which is recorded."""
    spec = check.spec
    handles = {asset: asset_handle(asset) for asset in (spec.asset, *spec.reads)}
    recorded = project.check_result(spec)
    if recorded and not forced:
        return recorded
    fingerprint = project.check_fingerprint(spec)
    outcome = check.examine(project, handles)
    for asset in handles:
        project.asset_handle(asset)  # raises if its files changed meanwhile
    result = CheckResult(
        fingerprint=fingerprint,
        passed=outcome.passed,
        severity=check.severity(project, outcome).name,
        sentence=outcome.sentence,
        figures=outcome.figures,
    )
    project.store.record_check_result(spec.asset, spec.name, result)
    return result


def metadata_rows(handle: AssetHandle) -> list[dict[str, Any]]:
    """The rows of an image folder's ``metadata.jsonl``."""
    from vdm_pipeline.io.tables import read_rows

    return read_rows(handle["folder"] / "metadata.jsonl")
