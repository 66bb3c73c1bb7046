"""Films as tensors on the device that trains."""

import torch

from vdm_pipeline.embedded.training.run import Run


def healthy_films(run: Run, count: int) -> torch.Tensor:
    """``count`` healthy films, uint8 ``[count, 64, 64]``. They stay on the device: 4 kB each."""
    return torch.from_numpy(run.films.load(count, pneumonia=False)).to(run.device)


def both_classes(run: Run, per_class: int) -> torch.Tensor:
    """``per_class`` healthy films, then as many with pneumonia, uint8 ``[2 * per_class, 64, 64]``."""
    pneumonia = torch.from_numpy(run.films.load(per_class, pneumonia=True)).to(run.device)
    return torch.cat([healthy_films(run, per_class), pneumonia])


def to_tensor(films: torch.Tensor) -> torch.Tensor:
    """Grey uint8 ``[n, h, w]`` to float32 RGB ``[n, 3, h, w]`` in [-1, 1]."""
    return films.float().div(127.5).sub(1)[:, None].expand(-1, 3, -1, -1)
