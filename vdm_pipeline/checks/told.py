"""From a finding to Dagster's result, found now or kept from the last time that it was looked for."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.io.verdicts import Verdict
from vdm_pipeline.resources import Run, Stored
from vdm_pipeline.settings import fingerprint

if TYPE_CHECKING:
    from vdm_pipeline.stages.findings import Finding

VERSION = 1
"""Of all checks; a new one has all of them look again."""
Result = dg.AssetCheckResult
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


def look(
    context: dg.AssetCheckExecutionContext,
    run: Run,
    find: "Callable[[], Finding]",
    handles: list[Stored],
    severity: "dg.AssetCheckSeverity | Callable[[Finding], dg.AssetCheckSeverity]" = ERROR,
) -> Result:
    """What ``find`` finds in the handles, the first of them the checked asset's; what it found in the same data is kept.

    What a blocking check stopped in one run is not read in the next. A severity of WARN stops nothing.
    """
    (spec,) = context.check_specs
    asset, check = spec.asset_key.to_user_string(), spec.name
    asked = run.profile.model_dump(mode="json", exclude={"execution", "automation"})
    print_ = fingerprint(VERSION, check, {handle.asset: handle.data_version for handle in handles}, asked)
    verdict = run.store.verdicts(asset).get(check)
    if verdict is None or verdict.fingerprint != print_ or run.forced(asset, context.run.tags):
        finding = find()
        verdict = Verdict(
            fingerprint=print_,
            data_version=handles[0].data_version,
            blocking=spec.blocking,
            passed=finding.passed,
            severity=(severity if isinstance(severity, dg.AssetCheckSeverity) else severity(finding)).name,
            sentence=finding.sentence,
            figures=finding.figures,
        )
        run.store.keep_verdict(asset, check, verdict)
    return Result(
        passed=verdict.passed,
        description=verdict.sentence,
        metadata=verdict.figures,
        severity=dg.AssetCheckSeverity[verdict.severity],
    )


def rows_of(handle: Stored) -> list[dict[str, Any]]:
    """The rows of an image folder."""
    from vdm_pipeline.io.tables import read_rows

    return read_rows(handle["folder"] / "metadata.jsonl")
