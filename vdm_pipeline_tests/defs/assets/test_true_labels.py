"""True labels of val calibrate, those of test measure, and those of train select nothing."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.data.npz import write_npz
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.evaluation.metrics.labels import true_labels_for
from vdm_pipeline_tests.defs.assets.graph import error_message, materialize
from vdm_pipeline_tests.profiles import shrink

TO_THE_SUBSET = [
    "raw_npz",
    "image_embeddings",
    "labeled_dataset",
    "data_faults",
    "label_noise",
    "lora_subset",
]
COUNTS = {"train": 80, "val": 48, "test": 48}
FILES = (
    "results/labeled_dataset.csv",
    "results/metrics/calibration.json",
    "results/metrics/label_suspects.csv",
)


def label_files(tiny: Profile, project: Path, swapped: tuple[str, ...]) -> dict[str, object]:
    """Labels and subset of phantoms; in the ``swapped`` splits every sixth has the other class's label."""
    arrays = {}
    for index, (split, count) in enumerate(COUNTS.items()):
        truth = np.arange(count) % 2
        arrays[f"{split}_images"] = render(5000 + 1000 * index, np.arange(count), truth == 1, 28)
        labels = np.where(np.arange(count) % 6 == 0, 1 - truth, truth) if split in swapped else truth
        arrays[f"{split}_labels"] = labels.astype(np.uint8)[:, None]
    path = project / "data/mine.npz"
    path.parent.mkdir(parents=True)
    write_npz(path, arrays)
    own = {"channels": 1, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "licence": "CC0"}
    data = {"dataset": "mine", "size": 28, "source": "file", "own": own}
    profile = shrink(tiny, data=data, checks={"min_purity": 0.0, "max_ece": 1.0}, subset={"per_class": 6})
    result = materialize(profile, project, TO_THE_SUBSET)
    assert result.success, error_message(result)
    table = pd.read_csv(project / FILES[0]).drop(columns=["ground_truth", "ground_truth_label"])
    rows = [json.loads(line) for line in (project / "data/subset/metadata.jsonl").read_text().splitlines()]
    subset = [(row["image_id"], row["label"], row["text"]) for row in rows]
    texts = {name: (project / name).read_text() for name in FILES[1:]}
    return {
        "table": table.to_csv(),
        "calibration": texts[FILES[1]],
        "suspects": texts[FILES[2]],
        "subset": subset,
    }


def test_true_labels_of_train_and_test_select_nothing_and_those_of_val_calibrate(tiny, tmp_path):
    plain = label_files(tiny, tmp_path / "plain", ())
    assert label_files(tiny, tmp_path / "train and test", ("train", "test")) == plain
    by_val = label_files(tiny, tmp_path / "val", ("val",))
    assert by_val["calibration"] != plain["calibration"]
    assert by_val["table"] != plain["table"]


@pytest.mark.parametrize(
    ("calibration", "captions_from", "train", "val"),
    [
        ("none", "auto_label", "evaluation only", "evaluation only"),
        ("prior", "auto_label", "evaluation only", "evaluation only"),
        ("platt", "auto_label", "evaluation only", "fitted temperature and bias and the threshold"),
        ("platt", "ground_truth", "selected and captioned the subset", "fitted temperature and bias"),
    ],
)
def test_metrics_file_states_what_the_true_labels_were_used_for(tiny, calibration, captions_from, train, val):
    changes = {"calibration": calibration, "prior": (0.5, 0.5) if calibration == "prior" else None}
    changes["decision"] = "balanced_accuracy" if calibration == "platt" else "argmax"
    uses = true_labels_for(shrink(tiny, labelling=changes).labelling, captions_from)
    assert (uses["train"], uses["test"]) == (train, "evaluation only")
    assert uses["val"].startswith(val)
    assert ("optimistic" in uses["val"]) == ("optimistic" in uses["overall"]) == (calibration == "platt")
