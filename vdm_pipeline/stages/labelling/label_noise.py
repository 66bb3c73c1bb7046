"""`label_noise`: find suspect train labels by confident learning (Northcutt et al., 2021) with cleanlab."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.data.quality import check_embedding_count

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5
COLUMNS = ["image_id", "label", "suggested", "quality"]


def find_suspects(
    embeddings: NDArray[np.float32], table: "pd.DataFrame", column: str, class_names: Sequence[str], seed: int
) -> "pd.DataFrame":
    """Rows of ``table`` whose label in ``column`` is likely wrong, worst first, with the columns `COLUMNS`.

    A linear probe on the embeddings ``[n, d]`` judges images that it was not trained on; the labeller's own
    probabilities would agree with their own argmax. ``quality`` is the probe's probability of the given
    label. Labels of `rare_classes` are not judged. Raises `PipelineError` unless there is one embedding per
    row.
    """
    import pandas as pd
    from cleanlab.filter import find_label_issues

    rare = rare_classes(table[column], class_names)
    judged = [name for name in class_names if name not in rare]
    if len(judged) < 2:
        return pd.DataFrame(columns=COLUMNS)
    rows = np.flatnonzero(table[column].isin(judged))
    codes = {name: code for code, name in enumerate(judged)}
    labels = table[column].iloc[rows].map(codes).to_numpy(np.int64)
    check_embedding_count(embeddings, len(table), "train")
    probabilities = out_of_sample_probabilities(embeddings[rows], labels, seed)
    worst = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return pd.DataFrame(
        {
            "image_id": table["image_id"].to_numpy()[rows[worst]],
            "label": table[column].to_numpy()[rows[worst]],
            "suggested": np.asarray(judged)[probabilities[worst].argmax(1)],
            "quality": probabilities[worst, labels[worst]],
        }
    )


def rare_classes(labels: "pd.Series", class_names: Sequence[str]) -> list[str]:
    """Classes with fewer labels than cross-validation has folds."""
    counts = labels.value_counts()
    return [name for name in class_names if counts.get(name, 0) < FOLDS]


def out_of_sample_probabilities(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Probabilities ``[n, classes]`` of a logistic regression trained on the other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return cross_val_predict(probe, embeddings, labels, cv=folds, method="predict_proba")
