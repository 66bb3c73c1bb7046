"""`labeled_dataset`: the table of calibrated zero-shot labels, one row an image of every split."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Labelling
from vdm_pipeline.stages.data.archive import Archive
from vdm_pipeline.stages.labelling.calibration import Calibration, calibrate, softmax
from vdm_pipeline.stages.labelling.zero_shot import logits

if TYPE_CHECKING:
    import pandas as pd

Embeddings = Callable[[str], Iterable[NDArray[np.float32]]]
"""The embeddings of a split, a part ``[n, d]`` at a time."""


def label_archive(
    archive: Archive,
    embeddings: Embeddings,
    text: NDArray[np.float32],
    scale: float,
    labelling: Labelling,
    class_names: Sequence[str],
) -> tuple["pd.DataFrame", Calibration]:
    """The table of labels and the calibration behind it, learnt on val alone.

    ``text`` holds one unit vector a class ``[classes, d]``. Raises `PipelineError` if embeddings are missing or not finite.
    """
    scores = {}
    for split, part in archive.splits.items():
        scores[split] = np.concatenate([logits(rows, text, scale) for rows in embeddings(split)])
        if len(scores[split]) != len(part):
            raise PipelineError(
                f"{len(scores[split])} embeddings for {len(part)} images of {split}; materialize image_embeddings again."
            )
        broken = np.flatnonzero(~np.isfinite(scores[split]).all(axis=1))
        if len(broken):
            raise PipelineError(
                f"The labeller's scores of {len(broken)} of {len(part)} images of {split} are not finite, the first of image "
                f"{archive.image_ids(split)[broken[0]]}; look at the image and at labelling.model, and materialize image_embeddings again."
            )
    calibration = calibrate(labelling, scores["val"], archive.splits["val"].labels)
    return label_table(archive, scores, calibration, class_names), calibration


def label_table(
    archive: Archive,
    scores: dict[str, NDArray[np.float64]],
    calibration: Calibration,
    class_names: Sequence[str],
) -> "pd.DataFrame":
    """Rows in the archive's order from logits ``[n, classes]`` a split.

    Columns as the contract has them, then ``p_<class>``, calibrated, and ``zero_shot_p_<class>``, the model's own.
    ``confidence_score`` is the calibrated probability of ``auto_label``.
    """
    raw = np.concatenate([scores[split] for split in archive.splits])
    probabilities = calibration.probabilities(raw)
    labels = calibration.decide(probabilities)
    table = archive_columns(archive, class_names)
    table.insert(1, "auto_label", [class_names[i] for i in labels])
    table.insert(4, "confidence_score", probabilities[np.arange(len(labels)), labels])
    for prefix, values in (("p", probabilities), ("zero_shot_p", softmax(raw))):
        table = table.assign(
            **{f"{prefix}_{name}": values[:, index] for index, name in enumerate(class_names)}
        )
    return table


def archive_columns(archive: Archive, class_names: Sequence[str]) -> "pd.DataFrame":
    """What a table of labels has from the archive: ``image_id, ground_truth, ground_truth_label, split``, in its order."""
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


TEXTS = ("image_id", "auto_label", "ground_truth_label", "split")


def read_labels(path: Path) -> "pd.DataFrame":
    """Read the table back; classes may be called ``0``, ``null`` or ``true`` and stay texts.

    Raises `PipelineError` if it is damaged or lacks a column.
    """
    import pandas as pd

    try:
        columns = pd.read_csv(path, nrows=0).columns
        numbers = {column: ["", "nan"] for column in columns if column not in TEXTS}
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=numbers)
    except (ValueError, OSError) as error:  # pandas raises ValueErrors for damage
        raise PipelineError(
            f"{path} is no table of labels ({type(error).__name__}); materialize labeled_dataset again."
        ) from None
    lacking = [column for column in (*TEXTS, "ground_truth", "confidence_score") if column not in table]
    if lacking:
        raise PipelineError(f"{path} lacks the column {lacking[0]}; materialize labeled_dataset again.")
    return table


def refuse_degenerate(table: "pd.DataFrame", class_names: Sequence[str], *, as_captions: bool) -> None:
    """Raise `PipelineError` if all images get one label, or, where labels become captions, if a class is never predicted.

    Such labels say nothing, whatever their accuracy.
    """
    counts = table["auto_label"].value_counts()
    never = [name for name in class_names if name not in counts]
    if never and (as_captions or len(counts) == 1):
        raise PipelineError(
            f"The labeller never says {', '.join(never)} of {len(table)} images, so its labels say nothing; "
            "check labelling.phrases, labelling.calibration and labelling.model in the profile."
        )
