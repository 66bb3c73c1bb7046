"""What a generation is told, as one JSON file, so that several processes can be told the same."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vdm_pipeline.settings import Execution
from vdm_pipeline.stages.sampling.plan import Arm, Shot


class Job(BaseModel):
    """The shots of an arm, drawn into ``folder``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: Arm
    shots: tuple[Shot, ...]
    folder: Path
    execution: Execution

    @property
    def batch(self) -> int:
        """Images a forward pass, always; the last group is padded."""
        return min(self.execution.image_batch, len(self.shots))

    def groups(self) -> list[tuple[Shot, ...]]:
        """The shots that are drawn together: fixed by the plan, so that an image's neighbours do not depend on what is missing."""
        return [self.shots[start : start + self.batch] for start in range(0, len(self.shots), self.batch)]
