"""What a training is told: paths and settings, as one JSON file, so that several processes can be told the same."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vdm_pipeline.settings import Execution, Training, fingerprint


class Job(BaseModel):
    """``subset`` and ``held_out`` are imagefolders; ``state`` keeps checkpoints and ``cache`` latents, ``out`` gets the results."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Path
    subset: Path
    held_out: Path
    cache: Path
    state: Path
    out: Path
    training: Training
    execution: Execution
    note: dict[str, str]


def resume_key(training: Training, data_version: str, base: str, code_version: int) -> str:
    """Trainings with the same key share every step that both make, so one may go on from the other's checkpoint.

    The number of steps is part of it only where the learning rate depends on it.
    """
    asked = training.fingerprint_values(
        exclude={"max_train_steps"} if training.lr_scheduler == "constant" else None
    )
    return fingerprint(asked, data_version, base, code_version)
