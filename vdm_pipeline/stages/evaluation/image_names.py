"""Names of the images that a search for copies reports."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ImageNames:
    """File names of an arm's images, the same in all arms, and ids of the real images."""

    generated: Sequence[str]
    train: Sequence[str]
    held_out: Sequence[str]
