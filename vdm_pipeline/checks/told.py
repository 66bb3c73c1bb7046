"""From a finding to Dagster's result."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.resources import Run, Stored

if TYPE_CHECKING:
    from vdm_pipeline.stages.findings import Finding


def told(finding: "Finding", severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR) -> dg.AssetCheckResult:
    """For Dagster."""
    return dg.AssetCheckResult(passed=finding.passed, description=finding.sentence, metadata=finding.figures, severity=severity)


def settled(
    run: Run, handle: Stored, finding: "Finding", check: str, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
) -> dg.AssetCheckResult:
    """For Dagster, and remembered: what is stopped in one run is not read in the next. A severity of WARN stops nothing."""
    stops = not finding.passed and severity == dg.AssetCheckSeverity.ERROR
    run.store.note_check(handle.asset, check, handle.data_version, finding.sentence if stops else None)
    return told(finding, severity)


def rows_of(handle: Stored) -> list[dict[str, Any]]:
    """The rows of an image folder."""
    from vdm_pipeline.io.tables import read_rows

    return read_rows(handle["folder"] / "metadata.jsonl")
