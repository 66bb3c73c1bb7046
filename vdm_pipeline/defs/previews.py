"""Pictures and tables for Dagster's metadata.

The UI shows Markdown of less than `INLINE_LIMIT` characters in the asset's overview, pictures included, and
longer Markdown after a click on '[Show Markdown]'. So each asset has small pictures for the overview, and one
preview at full size.
"""

import html
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Images = Sequence[Image] | NDArray[np.uint8]

COLUMNS = 8
"""Images per row of the preview."""
INLINE_LIMIT = 1000
"""Characters; of Dagster 1.13's UI (`MetadataEntry.tsx`)."""
INLINE_IMAGES = 4
"""Images per row of the overview; more would be too blurred."""
SIDES, QUALITIES = (64, 48, 32, 24), (60, 45, 30, 15)
"""Of the images in the overview: pixels per side, and WebP quality. The first pair that fits is used."""
RESOLUTIONS, COLOURS = (72, 56, 48, 40), (4, 3)
"""Of the plots in the overview: dots per inch, and colours."""


def image_preview(images: "Sequence[Image]", title: str) -> str:
    """Markdown with grey or RGB images of one size in rows of eight, embedded in the text."""
    from vdm_pipeline.io.images import image_grid, webp_uri

    return f"![{title}]({webp_uri(image_grid(list(images), columns=COLUMNS))})"


def file_preview(path: Path, title: str = "") -> str:
    """Markdown with a PNG file of this program, embedded in the text; titled like the file by default.

    Dagster stores the text twice per run, so the picture is stored as a smaller WebP.
    """
    import numpy as np
    from PIL import Image

    from vdm_pipeline.io.images import webp_uri

    with Image.open(path) as image:
        return f"![{title or path.stem}]({webp_uri(np.asarray(image.convert('RGB')))})"


def table_preview(frame: "pd.DataFrame", index: bool = False) -> str:
    """A Markdown table; markup and bars in its cells stay text."""
    return frame.map(_escape).to_markdown(index=index)


def _escape(value: object) -> object:
    return html.escape(value).replace("|", "&#124;") if isinstance(value, str) else value


def inline_images(groups: "Mapping[str, Images]") -> dict[str, str]:
    """Markdown with the first images of each group, such as a class, for the overview; by metadata key.

    All groups have the largest size at which each of them is shown.
    """
    texts: dict[str, str] = {}
    for side, quality in product(SIDES, QUALITIES):
        texts = {
            f"images_{name}": f"![images_{name}]({_first_images(images, side, quality)})"
            for name, images in groups.items()
            if len(images)
        }
        if all(len(text) < INLINE_LIMIT for text in texts.values()):
            break
    return {name: text for name, text in texts.items() if len(text) < INLINE_LIMIT}


def _first_images(images: "Images", side: int, quality: int) -> str:
    import numpy as np

    from vdm_pipeline.io.images import image_grid, resize, webp_uri

    first = np.stack(list(images[:INLINE_IMAGES]))
    return webp_uri(image_grid(list(resize(first, side)), columns=INLINE_IMAGES), quality)


def inline_plots(figures: "Mapping[str, Figure]") -> dict[str, str]:
    """Markdown with each plot for the overview, by metadata key. Removes the figures' titles and legends.

    Each is the largest version that the overview shows; a plot that never fits is left out.
    """
    inline = {}
    for name, figure in figures.items():
        texts = (f"![plot_{name}]({uri})" for uri in _figure_uris(figure))
        text = next((text for text in texts if len(text) < INLINE_LIMIT), None)
        if text:
            inline[f"plot_{name}"] = text
    return inline


def _figure_uris(figure: "Figure") -> Iterator[str]:
    from vdm_pipeline.io.images import webp_uri
    from vdm_pipeline.stages.report.plots.thumbnail import draw, reduce_colours, remove_texts

    remove_texts(figure)
    for dpi in RESOLUTIONS:
        drawn = draw(figure, dpi)
        for colours in COLOURS:
            yield webp_uri(reduce_colours(drawn, colours))
