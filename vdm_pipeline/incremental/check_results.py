"""What checks found, beside the record of the asset: a check of the same data under the same settings does not look again."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import write_text


class CheckResult(BaseModel):
    """One check's last result; ``fingerprint`` is of all that it looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    fingerprint: str
    passed: bool
    severity: Literal["ERROR", "WARN"]
    sentence: str
    figures: dict[str, Any]

    @property
    def blocks(self) -> bool:
        """Whether nothing may be made from what a blocking check looked at."""
        return not self.passed and self.severity == "ERROR"


CHECK_RESULTS = TypeAdapter(dict[str, CheckResult])


def read_check_results(path: Path) -> dict[str, CheckResult]:
    """By check; empty where there is no file. Raises `PipelineError` if it is damaged: it may hold what stops the run."""
    if not path.exists():
        return {}
    try:
        if not path.is_file():
            raise ValueError("no file")
        return CHECK_RESULTS.validate_json(path.read_bytes())
    except ValueError:  # also what pydantic raises
        raise PipelineError(f"{path} is damaged; delete it, and the checks look again.") from None


def write_check_results(path: Path, results: dict[str, CheckResult]) -> None:
    """Write atomically."""
    write_text(path, CHECK_RESULTS.dump_json(results, indent=1).decode() + "\n")
