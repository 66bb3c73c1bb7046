"""`labeled_dataset`: the table of zero-shot labels, one row an image of every split."""

from collections.abc import Sequence
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


def refuse_degenerate(table: "pd.DataFrame", class_names: Sequence[str]) -> None:
    """Raise `PipelineError` if a class is never predicted: such labels say nothing, whatever their accuracy."""
    counts = table["auto_label"].value_counts()
    never = [name for name in class_names if name not in counts]
    if never:
        raise PipelineError(
            f"The labeller never says {', '.join(never)} of {len(table)} images, so its labels say nothing; "
            "check labelling.prompts and labelling.model in the profile."
        )
