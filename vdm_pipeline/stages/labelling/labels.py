"""`labeled_dataset`: the table of calibrated zero-shot labels, one row per image of all splits."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Labelling
from vdm_pipeline.stages.data.archive import Archive
from vdm_pipeline.stages.data.quality import check_embedding_count
from vdm_pipeline.stages.labelling.calibration import Calibration, calibrate, softmax
from vdm_pipeline.stages.labelling.zero_shot import logits

if TYPE_CHECKING:
    import pandas as pd

TEXT_COLUMNS = ("image_id", "auto_label", "ground_truth_label", "split")
Embeddings = Callable[[str], Iterable[NDArray[np.float32]]]
"""Takes a split; returns its embeddings in parts ``[n, d]``."""


def label_archive(
    archive: Archive,
    embeddings: Embeddings,
    text: NDArray[np.float32],
    scale: float,
    labelling: Labelling,
    class_names: Sequence[str],
) -> tuple["pd.DataFrame", Calibration]:
    """The table of labels, and the calibration fitted on val only.

    ``text`` holds one unit vector per class, ``[classes, d]``, and ``scale`` multiplies cosines. Raises
    `PipelineError` if embeddings are missing or not finite.
    """
    scores = {}
    for split in archive.splits:
        scores[split] = np.concatenate([logits(rows, text, scale) for rows in embeddings(split)])
        _check_scores(scores[split], archive, split)
    calibration = calibrate(labelling, scores["val"], archive.splits["val"].labels, class_names)
    return label_table(archive, scores, calibration, class_names), calibration


def _check_scores(scores: NDArray[np.float64], archive: Archive, split: str) -> None:
    """Raise `PipelineError` unless there is one finite row of logits per image."""
    images = len(archive.splits[split])
    check_embedding_count(scores, images, split)
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(broken):
        first = archive.image_ids(split)[broken[0]]
        raise PipelineError(
            f"The labeller's scores of {len(broken)} of {images} images of {split} are not finite, "
            f"the first of {first}; "
            "check that image and labelling.model, and materialize image_embeddings again."
        )


def label_table(
    archive: Archive,
    scores: dict[str, NDArray[np.float64]],
    calibration: Calibration,
    class_names: Sequence[str],
) -> "pd.DataFrame":
    """The table of labels from the logits ``[n, classes]`` of each split, in the archive's order.

    The fixed columns come first, then the calibrated ``p_<class>`` and the raw ``zero_shot_p_<class>``.
    ``confidence_score`` is the calibrated probability of ``auto_label``.
    """
    raw = np.concatenate([scores[split] for split in archive.splits])
    probabilities = calibration.probabilities(raw)
    labels = calibration.decide(probabilities)
    table = archive_columns(archive, class_names)
    table.insert(1, "auto_label", [class_names[i] for i in labels])
    table.insert(4, "confidence_score", probabilities[np.arange(len(labels)), labels])
    for prefix, values in (("p", probabilities), ("zero_shot_p", softmax(raw))):
        columns = {f"{prefix}_{name}": values[:, index] for index, name in enumerate(class_names)}
        table = table.assign(**columns)
    return table


def archive_columns(archive: Archive, class_names: Sequence[str]) -> "pd.DataFrame":
    """Columns from the archive, in its order: ``image_id, ground_truth, ground_truth_label, split``."""
    import pandas as pd

    truth = np.concatenate([part.labels for part in archive.splits.values()])
    return pd.DataFrame(
        {
            "image_id": [name for split in archive.splits for name in archive.image_ids(split)],
            "ground_truth": truth,
            "ground_truth_label": [class_names[i] for i in truth],
            "split": [split for split, part in archive.splits.items() for _ in range(len(part))],
        }
    )


def read_labels(path: Path) -> "pd.DataFrame":
    """Read the table back. Class names such as ``0``, ``null`` or ``true`` stay text.

    Raises `PipelineError` if the file is damaged or lacks a column.
    """
    import pandas as pd

    try:
        columns = pd.read_csv(path, nrows=0).columns
        missing_values = {column: ["", "nan"] for column in columns if column not in TEXT_COLUMNS}
        text = dict.fromkeys(TEXT_COLUMNS, str)
        table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=missing_values)
    except (ValueError, OSError) as error:  # pandas raises ValueErrors for damage
        raise PipelineError(
            f"{path} is not a table of labels ({type(error).__name__}); materialize labeled_dataset again."
        ) from None
    for column in (*TEXT_COLUMNS, "ground_truth", "confidence_score"):
        if column not in table:
            raise PipelineError(f"{path} lacks the column {column}; materialize labeled_dataset again.")
    return table


def check_every_class_predicted(table: "pd.DataFrame", class_names: Sequence[str]) -> None:
    """Raise `PipelineError` if no image has the automatic label of a class: captions would lack the class."""
    predicted = set(table["auto_label"])
    never = [name for name in class_names if name not in predicted]
    if never:
        raise PipelineError(
            f"The labeller never predicts {', '.join(never)} on {len(table)} images; "
            "check labelling.phrases, labelling.calibration and labelling.model in the profile."
        )
