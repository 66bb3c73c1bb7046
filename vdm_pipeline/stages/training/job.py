"""The input of a training: paths and settings, as one JSON file that several processes can read."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vdm_pipeline.settings import Execution, Training, fingerprint


class Job(BaseModel):
    """``base`` is a Stable Diffusion folder; ``subset`` and ``held_out`` are imagefolders.

    ``state`` keeps checkpoints, ``cache`` keeps latents, and ``out`` receives the results. ``metadata`` goes
    into the header of the adapter's file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Path
    subset: Path
    held_out: Path
    cache: Path
    state: Path
    out: Path
    training: Training
    execution: Execution
    metadata: dict[str, str]


def resume_key(training: Training, data_version: str, base: str, code_version: int) -> str:
    """Two trainings with the same key run the same steps, so one may resume from the other's checkpoint.

    ``max_train_steps`` is part of the key only if the learning rate depends on it.
    """
    exclude = {"max_train_steps"} if training.lr_scheduler == "constant" else None
    return fingerprint(training.fingerprint_values(exclude=exclude), data_version, base, code_version)
