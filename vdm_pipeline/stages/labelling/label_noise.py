"""`label_noise`: train labels that a second opinion doubts, by confident learning (Northcutt et al., 2021, in cleanlab)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.data.quality import check_one_per_image

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5


def find_suspects(
    embeddings: NDArray[np.float32], table: "pd.DataFrame", column: str, class_names: Sequence[str], seed: int
) -> "pd.DataFrame":
    """Rows of ``table`` whose label in ``column`` is likely wrong, worst first: ``image_id, label, suggested, quality``.

    The second opinion is a linear probe on the embeddings ``[n, d]`` that has not seen the image it judges; the labeller's own
    probabilities would agree with their own argmax. ``quality`` is the probe's probability of the label as it stands.
    Labels that are too rare to be judged (`too_rare`) are not. Raises `PipelineError` unless there is one embedding a row.
    """
    import pandas as pd
    from cleanlab.filter import find_label_issues

    judged = [name for name in class_names if name not in too_rare(table[column], class_names)]
    rows = np.flatnonzero(table[column].isin(judged))
    labels = (
        table[column].iloc[rows].map({name: label for label, name in enumerate(judged)}).to_numpy(np.int64)
    )
    if len(judged) < 2:
        return pd.DataFrame(columns=["image_id", "label", "suggested", "quality"])
    probabilities = out_of_sample(check_one_per_image(embeddings, len(table), "train")[rows], labels, seed)
    worst = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return pd.DataFrame(
        {
            "image_id": table["image_id"].to_numpy()[rows[worst]],
            "label": table[column].to_numpy()[rows[worst]],
            "suggested": np.asarray(judged)[probabilities[worst].argmax(1)],
            "quality": probabilities[worst, labels[worst]],
        }
    )


def too_rare(labels: "pd.Series", class_names: Sequence[str]) -> list[str]:
    """Classes with fewer labels than the probe has folds."""
    counts = labels.value_counts()
    return [name for name in class_names if counts.get(name, 0) < FOLDS]


def out_of_sample(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Probabilities ``[n, classes]`` of a logistic regression that was trained on the other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return cross_val_predict(probe, embeddings, labels, cv=folds, method="predict_proba")
