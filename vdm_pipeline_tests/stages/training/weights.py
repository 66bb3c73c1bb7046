"""Adapters as dictionaries of tensors, under the names of the file."""

import torch

from vdm_pipeline.settings import Training
from vdm_pipeline.stages.models.diffusion import load_component
from vdm_pipeline.stages.training.adapter import add_lora
from vdm_pipeline_tests.stages.training.jobs import BASE


def named_as_in_file(parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The parameters of `add_lora` under the names of the file."""
    return {f"unet.{name.replace('.default', '')}": value.detach() for name, value in parameters.items()}


def initial_adapter(training: Training) -> dict[str, torch.Tensor]:
    """The adapter before the first step."""
    return named_as_in_file(add_lora(load_component(BASE, "unet"), training))


def max_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest absolute difference of two adapters."""
    return max(float((a[name] - b[name]).abs().max()) for name in a)
