"""What new labels changed since the last ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdm_pipeline.stages.labelling.labels import TEXTS

if TYPE_CHECKING:
    import pandas as pd

NEEDED = ["image_id", "split", "auto_label", "confidence_score", "ground_truth_label"]


def last_labels(path: Path) -> "pd.DataFrame | None":
    """The table of the last labelling, or None where there is none, or no table of labels, to compare with."""
    import pandas as pd

    if not path.is_file():
        return None
    try:
        return pd.read_csv(path, usecols=NEEDED, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False)
    except (
        ValueError,
        UnicodeDecodeError,
    ):  # pandas raises ValueErrors for damage, empty files and missing columns
        return None


def flipped(old: "pd.DataFrame | None", new: "pd.DataFrame") -> "pd.DataFrame":
    """Images whose label changed: ``image_id, split, before, after, confidence_before, confidence_after``; none without ``old``.

    An id is a place in the archive, so ``old`` must be labels of the same archive.
    """
    import pandas as pd

    columns = ["image_id", "split", "before", "after", "confidence_before", "confidence_after"]
    if old is None:
        return pd.DataFrame(columns=columns)
    both = new.merge(old, on="image_id", suffixes=("", "_old"))
    rows = both[both["auto_label"] != both["auto_label_old"]]
    renamed = {
        "auto_label_old": "before",
        "auto_label": "after",
        "confidence_score_old": "confidence_before",
        "confidence_score": "confidence_after",
    }
    return rows.rename(columns=renamed)[columns].reset_index(drop=True)


def before_and_after(old: "pd.DataFrame | None", new: "pd.DataFrame") -> dict[str, Any]:
    """Accuracy, balanced accuracy and MCC on test of both labellings, each against its own true labels; nothing without ``old``."""
    from sklearn import metrics

    if old is None:
        return {}
    scorers = {
        "accuracy": metrics.accuracy_score,
        "balanced_accuracy": metrics.balanced_accuracy_score,
        "mcc": metrics.matthews_corrcoef,
    }
    tests = {when: table[table["split"] == "test"] for when, table in (("before", old), ("after", new))}
    return {
        f"test_{name}_{when}": round(float(scorer(test["ground_truth_label"], test["auto_label"])), 4)
        for name, scorer in scorers.items()
        for when, test in tests.items()
        if len(test)
    }
