"""A judge of images that is not the labeller: a small CNN on the true labels of the real train split."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from vdm_pipeline.stages.data.grey import to_grey

SIZE = 64
BATCH = 32


def _network(classes: int) -> nn.Sequential:
    """A stem that quarters the side, as a ResNet's, and three more convolutions; the stem makes it some five times as fast."""
    stem = [
        nn.Conv2d(1, 16, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]
    layers: list[nn.Module] = []
    for before, after, pool in ((16, 32, 2), (32, 64, 1), (64, 96, 2)):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.MaxPool2d(pool),
        ]
    return nn.Sequential(
        *stem, *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * 96, classes)
    )


@dataclass(frozen=True)
class Judge:
    """A trained network over grey images of any size."""

    network: nn.Module
    device: torch.device

    @torch.inference_mode()
    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Probability of each class, ``[n, classes]``, for uint8 ``[n, h, w]`` or ``[n, h, w, 3]``."""
        parts = [
            self.network(x.to(self.device)).softmax(1).cpu().double().numpy()
            for x in _inputs(images).split(256)
        ]
        return np.concatenate(parts)


def train_judge(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    classes: int,
    epochs: int,
    seed: int,
    device: torch.device,
) -> Judge:
    """Train on images and true labels; classes weigh the same however many images they have."""
    torch.manual_seed(seed)
    network, x, y = _network(classes).to(device), _inputs(images), torch.from_numpy(labels)
    weight = len(y) / (classes * torch.bincount(y, minlength=classes).clamp_min(1)).float()
    steps = epochs * -(-len(y) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(y), generator=generator).split(BATCH):
            loss = F.cross_entropy(
                network(_augment(x[rows], generator).to(device)), y[rows].to(device), weight.to(device)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return Judge(network.eval(), device)


def _inputs(images: NDArray[np.uint8]) -> torch.Tensor:
    """Grey, 64 x 64, mean 0 and deviation 1 each: the judge is not to go by exposure."""
    x = torch.from_numpy(np.ascontiguousarray(to_grey(images))).float()[:, None]
    x = F.interpolate(x, (SIZE, SIZE), mode="bicubic", align_corners=False, antialias=True)
    return (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 1)


def _augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift by up to 3 pixels, add a little noise, and blur half of the batch, so that texture alone does not decide."""
    dx, dy = torch.randint(-3, 4, (2,), generator=generator).tolist()
    x = torch.roll(x, (dy, dx), (2, 3)) + 0.05 * torch.randn(x.shape, generator=generator)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return torch.where(torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5, blurred, x)
