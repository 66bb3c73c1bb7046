"""The judge: a small CNN trained on the true labels of the real train split, independent of the labeller."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from vdm_pipeline.stages.data.grey import channels_of, with_channels

SIZE = 64
TRAIN_BATCH_SIZE = 32
BATCH_SIZE = 256
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
MAX_SHIFT = 3
"""Pixels, of the augmentation."""


@dataclass(frozen=True)
class Judge:
    """A trained network for images of any size, which it sees with the channels of its training images."""

    network: nn.Module
    device: torch.device
    channels: Literal[1, 3]

    @torch.inference_mode()
    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Probability of each class, ``[n, classes]``, for uint8 ``[n, h, w]`` or ``[n, h, w, 3]``."""
        batches = _inputs(images, self.channels).split(BATCH_SIZE)
        parts = [self.network(x.to(self.device)).softmax(1).cpu().double().numpy() for x in batches]
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
    """Train on images and true labels. All classes have the same weight, whatever their number of images."""
    torch.manual_seed(seed)
    channels = channels_of(images)
    network, x = _small_cnn(channels, classes).to(device), _inputs(images, channels)
    y = torch.from_numpy(labels)
    class_weights = len(y) / (classes * torch.bincount(y, minlength=classes).clamp_min(1)).float()
    loss_function = nn.CrossEntropyLoss(class_weights.to(device))
    steps = epochs * -(-len(y) // TRAIN_BATCH_SIZE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(y), generator=generator).split(TRAIN_BATCH_SIZE):
            logits = network(_augment(x[rows], generator).to(device))
            loss = loss_function(logits, y[rows].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    return Judge(network.eval(), device, channels)


def _small_cnn(channels: int, classes: int) -> nn.Sequential:
    """A stem as in a ResNet, three convolution blocks, and a linear head.

    The stem reduces the side to a quarter, which makes the network about five times as fast.
    """
    stem = [
        nn.Conv2d(channels, 16, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]
    blocks: list[nn.Module] = []
    for channels_in, channels_out, pool in ((16, 32, 2), (32, 64, 1), (64, 96, 2)):
        blocks += [
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.MaxPool2d(pool),
        ]
    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * 96, classes)]
    return nn.Sequential(*stem, *blocks, *head)


def _inputs(images: NDArray[np.uint8], channels: Literal[1, 3]) -> torch.Tensor:
    """64 x 64, each image with mean 0 and standard deviation 1, so that exposure does not matter.

    The channels of an image are standardized together, so that its colours stay.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(with_channels(images, channels))).float()
    x = pixels[:, None] if channels == 1 else pixels.permute(0, 3, 1, 2).contiguous()
    x = F.interpolate(x, (SIZE, SIZE), mode="bicubic", align_corners=False, antialias=True)
    return (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 1)


def _augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift by up to 3 pixels, add noise, and blur half of the batch, so that texture alone is not enough."""
    dx, dy = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2,), generator=generator).tolist()
    x = torch.roll(x, (dy, dx), (2, 3)) + 0.05 * torch.randn(x.shape, generator=generator)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return torch.where(torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5, blurred, x)
