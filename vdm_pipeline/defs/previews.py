"""Pictures and tables for Dagster's metadata."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

COLUMNS = 8
"""Images a row."""


def image_preview(images: "Sequence[NDArray[np.uint8]]", title: str) -> str:
    """Markdown with grey or RGB images of one size in rows of eight, embedded in the text."""
    from vdm_pipeline.io.images import data_uri, image_grid

    return f"![{title}]({data_uri(image_grid(list(images), columns=COLUMNS))})"


def table_preview(frame: "pd.DataFrame", index: bool = False) -> str:
    """A Markdown table; markup and bars in its cells stay text."""
    return frame.map(_escape).to_markdown(index=index)


def _escape(value: object) -> object:
    return html.escape(value).replace("|", "&#124;") if isinstance(value, str) else value
