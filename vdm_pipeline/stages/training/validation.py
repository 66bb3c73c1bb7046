"""The loss on held-out images, and the weights that were validated, to measure it again on other images.

Held-out images do not change the adapter. When they change, only the validation losses are measured again.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.io.tensors import write_tensors
from vdm_pipeline.stages.training.randomness import fixed_randomness
from vdm_pipeline.stages.training.session import Session
from vdm_pipeline.stages.training.training_log import TrainingLog


def validate(session: Session, step: int) -> float | None:
    """Keep the weights of ``step`` in ``job.state``; return their validation loss, None without images."""
    with session.learner.ema_weights():
        weights = {
            name: value.detach().cpu().contiguous() for name, value in session.learner.parameters.items()
        }
        write_tensors(_weights_path(session, step), weights, {})
        return validation_loss(session)


def validate_again(session: Session, training_log: TrainingLog) -> None:
    """If the log's validation losses are of other held-out images, measure them with the kept weights.

    A loss whose weights are lost becomes blank.
    """
    record, digest = session.job.state / "validation/held_out", _held_out_digest(session.job.held_out)
    if record.is_file() and record.read_text(encoding="utf-8") == digest:
        return
    losses = {}
    for step in training_log.steps:
        with _kept_weights(session, step) as found:
            losses[step] = validation_loss(session) if found else None
    if losses:
        session.log(f"other held-out images: measuring the validation losses up to step {max(losses)} again")
        training_log.set_validation_losses(losses)
    write_text(record, digest)


@torch.no_grad()
def validation_loss(session: Session) -> float | None:
    """Mean loss over the held-out images, with the UNet's current weights; None without images.

    Noise and timesteps are the same in every call.
    """
    objective, held_out = session.objective, session.held_out
    if held_out is None:
        return None
    randomness = fixed_randomness(held_out.n, held_out.latent_shape, objective.num_train_timesteps)

    def losses(micro: int) -> torch.Tensor:
        parts = [randomness.part(start, start + micro) for start in range(0, held_out.n, micro)]
        return torch.cat([objective.losses(session.unet, held_out, part) for part in parts])

    return float(session.learner.adaptive_batch(losses).mean())


@contextmanager
def _kept_weights(session: Session, step: int) -> Iterator[bool]:
    """For the block, give the UNet the weights kept at ``step``; yields False if they are lost or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    parameters = session.learner.parameters
    current = {name: value.detach().clone() for name, value in parameters.items()}
    try:
        kept = load_file(_weights_path(session, step))
    except (FileNotFoundError, SafetensorError):
        yield False
        return
    _copy(kept, parameters)
    try:
        yield True
    finally:
        _copy(current, parameters)


@torch.no_grad()
def _copy(source: dict[str, torch.Tensor], target: dict[str, torch.Tensor]) -> None:
    for name, value in target.items():
        value.copy_(source[name])


def _weights_path(session: Session, step: int) -> Path:
    return session.job.state / f"validation/step_{step:08d}.safetensors"


def _held_out_digest(folder: Path) -> str:
    """Hash of the images and captions in an imagefolder."""
    rows = read_rows(folder / "metadata.jsonl")
    content = [[row["text"], file_sha256(folder / row["file_name"])] for row in rows]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
