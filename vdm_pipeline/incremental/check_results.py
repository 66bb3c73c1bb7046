"""The last results of an asset's checks. They are reused while the data and the settings stay the same."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import write_text


class CheckResult(BaseModel):
    """One check's last result; ``fingerprint`` covers all that it read."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    fingerprint: str
    passed: bool
    severity: Literal["ERROR", "WARN"]
    sentence: str
    figures: dict[str, Any]

    @property
    def blocks(self) -> bool:
        """Whether the result, of a blocking check, stops downstream assets."""
        return not self.passed and self.severity == "ERROR"


CHECK_RESULTS = TypeAdapter(dict[str, CheckResult])


def read_check_results(path: Path) -> dict[str, CheckResult]:
    """Results by check; empty where there is no file.

    Raises `PipelineError` if the file is damaged: it may hold a failure that blocks.
    """
    if not path.exists():
        return {}
    try:
        if not path.is_file():
            raise ValueError("not a file")
        return CHECK_RESULTS.validate_json(path.read_bytes())
    except ValueError:  # also what pydantic raises
        raise PipelineError(f"{path} is damaged; delete it, and the checks run again.") from None


def write_check_results(path: Path, results: dict[str, CheckResult]) -> None:
    """Write atomically."""
    write_text(path, CHECK_RESULTS.dump_json(results, indent=1).decode() + "\n")
