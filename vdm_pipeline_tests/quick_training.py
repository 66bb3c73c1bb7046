"""Shorten what takes half of a training of six steps: its sample sheet, and counting its FLOPs."""

import pytest

from vdm_pipeline.settings import Training
from vdm_pipeline.stages.training import mfu, sample_sheet, session

ADAPTER = {"rank", "target_modules", "use_dora"}
"""Settings that change the FLOPs."""
_counted: dict[str, float] = {}


def shorten_training(patch: pytest.MonkeyPatch) -> None:
    """Sample sheets of two steps, and FLOPs that are counted once per process for each kind of adapter."""
    patch.setattr(sample_sheet, "STEPS", 2)
    patch.setattr(session, "step_flops", _step_flops)


def _step_flops(unet_config, training: Training, *shapes: tuple[int, ...]) -> float:
    key = repr((sorted(unet_config.items()), training.model_dump(include=ADAPTER), shapes))
    if key not in _counted:
        _counted[key] = mfu.step_flops(unet_config, training, *shapes)
    return _counted[key]
