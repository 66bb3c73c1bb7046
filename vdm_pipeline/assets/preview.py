"""Pictures for Dagster's metadata."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def sheet(images: "Sequence[NDArray[np.uint8]]", title: str) -> str:
    """Markdown with grey or RGB images of one size in rows of eight, inside the text."""
    from vdm_pipeline.io.images import data_uri, image_grid

    return f"![{title}]({data_uri(image_grid(list(images), columns=8))})"
