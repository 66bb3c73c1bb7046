"""`labeled_dataset`: the table of zero-shot labels, one row an image of every split."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.stages.archive import Archive

if TYPE_CHECKING:
    import pandas as pd


def label_table(archive: Archive, probabilities: dict[str, NDArray[np.float64]], class_names: Sequence[str]) -> "pd.DataFrame":
    """Rows in the archive's order; columns as the contract has them, then ``p_<class>``.

    ``probabilities`` holds ``[n, classes]`` a split. The label is the class of the largest one: plain argmax.
    """
    import pandas as pd

    tables = []
    for split, values in probabilities.items():
        winners, truth = values.argmax(1), archive.splits[split].labels
        table = pd.DataFrame(
            {
                "image_id": archive.image_ids(split),
                "auto_label": [class_names[i] for i in winners],
                "ground_truth": truth,
                "ground_truth_label": [class_names[i] for i in truth],
                "confidence_score": values.max(1),
                "split": split,
            }
        )
        for index, name in enumerate(class_names):
            table[f"p_{name}"] = values[:, index]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


TEXTS = ("image_id", "auto_label", "ground_truth_label", "split")


def read_labels(path: Path) -> "pd.DataFrame":
    """Read the table back; classes may be called ``0``, ``null`` or ``true`` and stay texts."""
    import pandas as pd

    columns = pd.read_csv(path, nrows=0).columns
    numbers = {column: ["", "nan"] for column in columns if column not in TEXTS}
    return pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=numbers)


def refuse_degenerate(table: "pd.DataFrame", class_names: Sequence[str], *, as_captions: bool) -> None:
    """Raise `PipelineError` if all images get one label, or, where labels become captions, if a class is never predicted.

    Such labels say nothing, whatever their accuracy.
    """
    counts = table["auto_label"].value_counts()
    never = [name for name in class_names if name not in counts]
    if never and (as_captions or len(counts) == 1):
        raise PipelineError(
            f"The labeller never says {', '.join(never)} of {len(table)} images, so its labels say nothing; "
            "check labelling.prompts and labelling.model in the profile."
        )
