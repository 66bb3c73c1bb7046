"""What a generation is told, as one JSON file, so that several processes can be told the same."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vdm_pipeline.settings import Execution
from vdm_pipeline.stages.generation.plan import Arm, SampleSpec


class Job(BaseModel):
    """The shots of an arm, drawn into ``folder``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: Arm
    samples: tuple[SampleSpec, ...]
    folder: Path
    execution: Execution

    @property
    def batch(self) -> int:
        """Images a forward pass, always; the last group is padded."""
        return min(self.execution.generation_batch_size, len(self.samples))

    def groups(self) -> list[tuple[SampleSpec, ...]]:
        """The shots that are drawn together: fixed by the plan, so that an image's neighbours do not depend on what is missing."""
        return [self.samples[start : start + self.batch] for start in range(0, len(self.samples), self.batch)]
