"""`label_noise`: train labels that a second opinion doubts, by confident learning (Northcutt et al., 2021, in cleanlab)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5


def find_suspects(
    embeddings: NDArray[np.float32], table: "pd.DataFrame", column: str, class_names: Sequence[str], seed: int
) -> "pd.DataFrame":
    """Rows of ``table`` whose label in ``column`` is likely wrong, worst first: ``image_id, label, suggested, quality``.

    The second opinion is a linear probe on the embeddings ``[n, d]`` that has not seen the image it judges; the labeller's own
    probabilities would agree with their own argmax. ``quality`` is the probe's probability of the label as it stands.
    Raises `PipelineError` if a class has fewer labels than the probe has folds.
    """
    import pandas as pd
    from cleanlab.filter import find_label_issues

    index = {name: label for label, name in enumerate(class_names)}
    labels = table[column].map(index).to_numpy(np.int64)
    counts = np.bincount(labels, minlength=len(class_names))
    if counts.min() < FOLDS:
        raise PipelineError(
            f"Only {counts.min()} train images are labelled {class_names[int(counts.argmin())]}, too few for a second opinion by "
            f"{FOLDS}-fold cross-validation; look at the labels, or take more images."
        )
    probabilities = out_of_sample(embeddings, labels, seed)
    worst = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return pd.DataFrame(
        {
            "image_id": table["image_id"].to_numpy()[worst],
            "label": table[column].to_numpy()[worst],
            "suggested": np.asarray(class_names)[probabilities[worst].argmax(1)],
            "quality": probabilities[worst, labels[worst]],
        }
    )


def out_of_sample(embeddings: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Probabilities ``[n, classes]`` of a logistic regression that was trained on the other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return cross_val_predict(probe, embeddings, labels, cv=folds, method="predict_proba")
