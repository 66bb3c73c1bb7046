"""From a function that looks at an asset to a check that Dagster knows; what it found in the same data is kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.disk import disk_faults
from vdm_pipeline.io.verdicts import Verdict
from vdm_pipeline.resources import Inputs, Run, Stored
from vdm_pipeline.settings import fingerprint

if TYPE_CHECKING:
    from vdm_pipeline.stages.findings import Finding

VERSION = 1
"""Of all checks; a new one has all of them look again."""
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN

Find = Callable[[Run, Inputs], "Finding"]
"""Looks at handles by asset; its docstring says what the check is for."""
Severity = Callable[[Run, "Finding"], dg.AssetCheckSeverity]


@dataclass(frozen=True)
class Check:
    """One check of an asset. A blocking one stops what would be made from the asset, unless its severity is WARN.

    ``reads`` are further assets that ``find`` is given handles on.
    """

    asset: str
    find: Find
    blocking: bool = False
    reads: tuple[str, ...] = ()
    severity: Severity = lambda run, finding: ERROR

    @property
    def spec(self) -> dg.AssetCheckSpec:
        """For Dagster."""
        return dg.AssetCheckSpec(
            self.find.__name__,
            asset=self.asset,
            additional_deps=list(self.reads),
            blocking=self.blocking,
            description=self.find.__doc__,
        )


def warns(run: Run, finding: "Finding") -> dg.AssetCheckSeverity:
    """Severity of a check that only warns."""
    return WARN


def checks_of(asset: str, checks: Sequence[Check]) -> dg.AssetChecksDefinition:
    """All checks of an asset as one step, so that the checks of a re-used asset cost next to nothing; each can be run alone."""
    by_name = {check.spec.name: check for check in checks}

    @dg.multi_asset_check(specs=[check.spec for check in checks], name=f"{asset}_checks", can_subset=True)
    def look(context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Run]) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.op_execution_context.selected_asset_check_keys}
        for name, check in by_name.items():
            if name not in selected:
                continue
            try:
                with disk_faults(run.store.root):
                    verdict = _verdict(run, name, check, run.forced(asset, context.run.tags))
            except PipelineError as error:
                raise dg.Failure(str(error), allow_retries=False) from None
            yield dg.AssetCheckResult(
                passed=verdict.passed,
                check_name=name,
                asset_key=asset,
                description=verdict.sentence,
                metadata=verdict.figures,
                severity=dg.AssetCheckSeverity[verdict.severity],
            )

    return look


def _verdict(run: Run, name: str, check: Check, forced: bool) -> Verdict:
    """What the check found in this data under these settings before, or finds now; the next run reads nothing that it stopped."""
    handles = {asset: run.stored(asset) for asset in (check.asset, *check.reads)}
    asked = run.profile.model_dump(mode="json", exclude={"execution", "automation"})
    print_ = fingerprint(VERSION, name, {asset: handle.data_version for asset, handle in handles.items()}, asked)
    kept = run.store.verdicts(check.asset).get(name)
    if kept and kept.fingerprint == print_ and not forced:
        return kept
    finding = check.find(run, handles)
    verdict = Verdict(
        fingerprint=print_,
        data_version=handles[check.asset].data_version,
        blocking=check.blocking,
        passed=finding.passed,
        severity=check.severity(run, finding).name,
        sentence=finding.sentence,
        figures=finding.figures,
    )
    run.store.keep_verdict(check.asset, name, verdict)
    return verdict


def rows_of(handle: Stored) -> list[dict[str, Any]]:
    """The rows of an image folder."""
    from vdm_pipeline.io.tables import read_rows

    return read_rows(handle["folder"] / "metadata.jsonl")
