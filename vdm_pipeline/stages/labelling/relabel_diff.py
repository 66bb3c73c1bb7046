"""Compare new labels with the previous ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdm_pipeline.stages.labelling.labels import TEXT_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

READ_COLUMNS = ["image_id", "split", "auto_label", "confidence_score", "ground_truth_label"]
RENAMED = {
    "auto_label_old": "before",
    "auto_label": "after",
    "confidence_score_old": "confidence_before",
    "confidence_score": "confidence_after",
}
DIFF_COLUMNS = ["image_id", "split", *RENAMED.values()]


def previous_labels(path: Path) -> "pd.DataFrame | None":
    """The previous table of labels, or None if the file is missing or not a table of labels."""
    import pandas as pd

    if not path.is_file():
        return None
    text = dict.fromkeys(TEXT_COLUMNS, str)
    try:
        return pd.read_csv(path, usecols=READ_COLUMNS, dtype=text, keep_default_na=False)
    except ValueError:  # damage, an empty file, missing columns, wrong encoding
        return None


def flipped_labels(old: "pd.DataFrame | None", new: "pd.DataFrame") -> "pd.DataFrame":
    """Images whose label changed, with the columns `DIFF_COLUMNS`; empty without ``old``.

    An id is a position in the archive, so ``old`` must be labels of the same archive.
    """
    import pandas as pd

    if old is None:
        return pd.DataFrame(columns=DIFF_COLUMNS)
    both = new.merge(old, on="image_id", suffixes=("", "_old"))
    rows = both[both["auto_label"] != both["auto_label_old"]]
    return rows.rename(columns=RENAMED)[DIFF_COLUMNS].reset_index(drop=True)


def metrics_before_and_after(old: "pd.DataFrame | None", new: "pd.DataFrame") -> dict[str, Any]:
    """Accuracy, balanced accuracy and MCC on test, by each table's own true labels; empty without ``old``."""
    from sklearn import metrics

    if old is None:
        return {}
    scorers = {
        "accuracy": metrics.accuracy_score,
        "balanced_accuracy": metrics.balanced_accuracy_score,
        "mcc": metrics.matthews_corrcoef,
    }
    tests = {"before": old[old["split"] == "test"], "after": new[new["split"] == "test"]}
    values = {}
    for name, scorer in scorers.items():
        for when, test in tests.items():
            if len(test):
                value = float(scorer(test["ground_truth_label"], test["auto_label"]))
                values[f"test_{name}_{when}"] = round(value, 4)
    return values
