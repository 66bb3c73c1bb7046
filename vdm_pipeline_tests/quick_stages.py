"""Shorten what takes half the time of tiny stages: sample sheets, counting FLOPs, and small plots."""

import pytest

from vdm_pipeline.defs import previews
from vdm_pipeline.settings import Training
from vdm_pipeline.stages.training import mfu, sample_sheet, session

ADAPTER = {"rank", "target_modules", "use_dora"}
"""Settings that change the FLOPs."""
_counted: dict[str, float] = {}


def shorten_stages(patch: pytest.MonkeyPatch) -> None:
    """Sample sheets of two steps, plots for the overview drawn once, and FLOPs counted once per process.

    FLOPs are counted for each kind of adapter.
    """
    patch.setattr(sample_sheet, "STEPS", 2)
    patch.setattr(previews, "RESOLUTIONS", previews.RESOLUTIONS[-1:])
    patch.setattr(session, "step_flops", _step_flops)


def _step_flops(unet_config, training: Training, *shapes: tuple[int, ...]) -> float:
    key = repr((sorted(unet_config.items()), training.model_dump(include=ADAPTER), shapes))
    if key not in _counted:
        _counted[key] = mfu.step_flops(unet_config, training, *shapes)
    return _counted[key]
