"""From a function that looks at an asset to a check that Dagster knows; what it found in the same data is kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.attempts import attempt
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.graph import CHECKS, CheckSpec
from vdm_pipeline.incremental.check_results import CheckResult
from vdm_pipeline.incremental.project import AssetHandle, Inputs, Project
from vdm_pipeline.incremental.staleness import check_state
from vdm_pipeline.io.disk import disk_faults

if TYPE_CHECKING:
    from vdm_pipeline.stages.check_outcome import CheckOutcome

    pass

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN

Find = Callable[[Project, Inputs], "CheckOutcome"]
"""Looks at handles by asset; its docstring says what the check is for."""
Severity = Callable[[Project, "CheckOutcome"], dg.AssetCheckSeverity]


@dataclass(frozen=True)
class Check:
    """One check of an asset; the table of gates tells what ``find`` is given handles on. A severity of WARN stops nothing."""

    asset: str
    find: Find
    severity: Severity = lambda run, outcome: ERROR

    @property
    def spec_(self) -> CheckSpec:
        """What the check is, without Dagster."""
        return CHECKS[self.asset, self.find.__name__]

    @property
    def spec(self) -> dg.AssetCheckSpec:
        """For Dagster."""
        return dg.AssetCheckSpec(
            self.spec_.name,
            asset=self.asset,
            additional_deps=list(self.spec_.reads),
            blocking=self.spec_.blocking,
            description=self.find.__doc__,
        )


def warns(run: Project, outcome: "CheckOutcome") -> dg.AssetCheckSeverity:
    """Severity of a check that only warns."""
    return WARN


def checks_of(asset: str, checks: Sequence[Check]) -> dg.AssetChecksDefinition:
    """All checks of an asset as one step, so that the checks of a re-used asset cost next to nothing; each can be run alone."""

    @dg.multi_asset_check(specs=[check.spec for check in checks], name=f"{asset}_checks", can_subset=True)
    def look(context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Project]) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.op_execution_context.selected_asset_check_keys}
        forced = run.forced(asset, context.run.tags)
        try:
            with disk_faults(run.store.root), attempt(context, run, f"{asset}_checks", check_state(run, asset)):
                yield from _results(run, asset, [check for check in checks if check.spec_.name in selected], forced)
        except PipelineError as error:
            raise dg.Failure(str(error), allow_retries=False) from None

    return look


def _results(run: Project, asset: str, checks: Sequence[Check], forced: bool) -> Iterator[dg.AssetCheckResult]:
    asset_handle = cache(run.asset_handle)
    for check in checks:
        result = _verdict(run, check, asset_handle, forced)
        yield dg.AssetCheckResult(
            passed=result.passed,
            check_name=check.spec_.name,
            asset_key=asset,
            description=result.sentence,
            metadata=result.figures,
            severity=dg.AssetCheckSeverity[result.severity],
        )


def _verdict(run: Project, check: Check, asset_handle: Callable[[str], AssetHandle], forced: bool) -> CheckResult:
    """What the check found in this data under these settings before, or finds now; the next run reads nothing that it stopped."""
    spec_ = check.spec_
    handles = {asset: asset_handle(asset) for asset in (spec_.asset, *spec_.reads)}
    print_ = run.check_fingerprint(spec_)
    kept = run.store.check_results(spec_.asset).get(spec_.name)
    if kept and kept.fingerprint == print_ and not forced:
        return kept
    outcome = check.find(run, handles)
    for asset in handles:
        run.asset_handle(asset)  # raises if its files were changed meanwhile
    severity = check.severity(run, outcome).name
    result = CheckResult(fingerprint=print_, passed=outcome.passed, severity=severity, sentence=outcome.sentence, figures=outcome.figures)
    run.store.record_check_result(spec_.asset, spec_.name, result)
    return result


def rows_of(handle: AssetHandle) -> list[dict[str, Any]]:
    """The rows of an image folder."""
    from vdm_pipeline.io.tables import read_rows

    return read_rows(handle["folder"] / "metadata.jsonl")
