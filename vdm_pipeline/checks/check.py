"""From a function that looks at an asset to a check that Dagster knows; what it found in the same data is kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.attempts import attempt
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.freshness import check_state
from vdm_pipeline.gates import GATES, Gate
from vdm_pipeline.io.disk import disk_faults
from vdm_pipeline.io.verdicts import Verdict
from vdm_pipeline.resources import Inputs, Run, Stored

if TYPE_CHECKING:
    from vdm_pipeline.stages.findings import Finding

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN

Find = Callable[[Run, Inputs], "Finding"]
"""Looks at handles by asset; its docstring says what the check is for."""
Severity = Callable[[Run, "Finding"], dg.AssetCheckSeverity]


@dataclass(frozen=True)
class Check:
    """One check of an asset; the table of gates tells what ``find`` is given handles on. A severity of WARN stops nothing."""

    asset: str
    find: Find
    severity: Severity = lambda run, finding: ERROR

    @property
    def gate(self) -> Gate:
        """What the check is, without Dagster."""
        return GATES[self.asset, self.find.__name__]

    @property
    def spec(self) -> dg.AssetCheckSpec:
        """For Dagster."""
        return dg.AssetCheckSpec(
            self.gate.name,
            asset=self.asset,
            additional_deps=list(self.gate.reads),
            blocking=self.gate.blocking,
            description=self.find.__doc__,
        )


def warns(run: Run, finding: "Finding") -> dg.AssetCheckSeverity:
    """Severity of a check that only warns."""
    return WARN


def checks_of(asset: str, checks: Sequence[Check]) -> dg.AssetChecksDefinition:
    """All checks of an asset as one step, so that the checks of a re-used asset cost next to nothing; each can be run alone."""

    @dg.multi_asset_check(specs=[check.spec for check in checks], name=f"{asset}_checks", can_subset=True)
    def look(context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Run]) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.op_execution_context.selected_asset_check_keys}
        forced = run.forced(asset, context.run.tags)
        try:
            with disk_faults(run.store.root), attempt(context, run, f"{asset}_checks", check_state(run, asset)):
                yield from _results(run, asset, [check for check in checks if check.gate.name in selected], forced)
        except PipelineError as error:
            raise dg.Failure(str(error), allow_retries=False) from None

    return look


def _results(run: Run, asset: str, checks: Sequence[Check], forced: bool) -> Iterator[dg.AssetCheckResult]:
    stored = cache(run.stored)
    for check in checks:
        verdict = _verdict(run, check, stored, forced)
        yield dg.AssetCheckResult(
            passed=verdict.passed,
            check_name=check.gate.name,
            asset_key=asset,
            description=verdict.sentence,
            metadata=verdict.figures,
            severity=dg.AssetCheckSeverity[verdict.severity],
        )


def _verdict(run: Run, check: Check, stored: Callable[[str], Stored], forced: bool) -> Verdict:
    """What the check found in this data under these settings before, or finds now; the next run reads nothing that it stopped."""
    gate = check.gate
    handles = {asset: stored(asset) for asset in (gate.asset, *gate.reads)}
    print_ = run.gate_fingerprint(gate)
    kept = run.store.verdicts(gate.asset).get(gate.name)
    if kept and kept.fingerprint == print_ and not forced:
        return kept
    finding = check.find(run, handles)
    for asset in handles:
        run.stored(asset)  # raises if its files were changed meanwhile
    severity = check.severity(run, finding).name
    verdict = Verdict(fingerprint=print_, passed=finding.passed, severity=severity, sentence=finding.sentence, figures=finding.figures)
    run.store.keep_verdict(gate.asset, gate.name, verdict)
    return verdict


def rows_of(handle: Stored) -> list[dict[str, Any]]:
    """The rows of an image folder."""
    from vdm_pipeline.io.tables import read_rows

    return read_rows(handle["folder"] / "metadata.jsonl")
