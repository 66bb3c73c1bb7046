"""Everything that a generation needs to know, as one JSON file that its worker processes read."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vdm_pipeline.settings import Execution
from vdm_pipeline.stages.generation.plan import Arm, SampleSpec


class Job(BaseModel):
    """The samples of one arm, to be generated into ``folder``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: Arm
    samples: tuple[SampleSpec, ...]
    folder: Path
    execution: Execution

    @property
    def batch_size(self) -> int:
        """Images per forward pass. It is always the same: the last group is padded."""
        return min(self.execution.generation_batch_size, len(self.samples))

    def groups(self) -> list[tuple[SampleSpec, ...]]:
        """The samples that are generated together.

        The plan fixes them, so the other images of a batch do not depend on which images are missing.
        """
        starts = range(0, len(self.samples), self.batch_size)
        return [self.samples[start : start + self.batch_size] for start in starts]
