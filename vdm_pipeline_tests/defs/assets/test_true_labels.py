"""What true labels may do: those of val calibrate, those of test measure, those of train choose nothing."""

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
from vdm_pipeline_tests.conftest import shrink
from vdm_pipeline_tests.defs.assets.graph import materialize, sentence

TO_THE_SUBSET = [
    "raw_npz",
    "image_embeddings",
    "labeled_dataset",
    "data_faults",
    "label_noise",
    "lora_subset",
]
COUNTS = {"train": 80, "val": 48, "test": 48}
REPORTED_ASSETS = (
    "results/labeled_dataset.csv",
    "results/metrics/calibration.json",
    "results/metrics/label_suspects.csv",
)


def labelled(tiny: Profile, project: Path, turned: tuple[str, ...]) -> dict[str, object]:
    """What is made of phantoms of which every sixth has the other class's label in the ``turned`` splits."""
    arrays = {}
    for index, (split, count) in enumerate(COUNTS.items()):
        truth = np.arange(count) % 2
        arrays[f"{split}_images"] = render(5000 + 1000 * index, np.arange(count), truth == 1, 28)
        told = np.where(np.arange(count) % 6 == 0, 1 - truth, truth) if split in turned else truth
        arrays[f"{split}_labels"] = told.astype(np.uint8)[:, None]
    path = project / "data/mine.npz"
    path.parent.mkdir(parents=True)
    write_npz(path, arrays)
    own = {"channels": 1, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "licence": "CC0"}
    data = {"dataset": "mine", "size": 28, "source": "file", "own": own}
    profile = shrink(tiny, data=data, checks={"min_purity": 0.0, "max_ece": 1.0}, subset={"per_class": 6})
    result = materialize(profile, project, TO_THE_SUBSET)
    assert result.success, sentence(result)
    table = pd.read_csv(project / REPORTED_ASSETS[0]).drop(columns=["ground_truth", "ground_truth_label"])
    rows = [json.loads(line) for line in (project / "data/subset/metadata.jsonl").read_text().splitlines()]
    subset = [(row["image_id"], row["label"], row["text"]) for row in rows]
    texts = {name: (project / name).read_text() for name in REPORTED_ASSETS[1:]}
    return {
        "table": table.to_csv(),
        "calibration": texts[REPORTED_ASSETS[1]],
        "suspects": texts[REPORTED_ASSETS[2]],
        "subset": subset,
    }


def test_true_labels_of_train_and_test_choose_nothing_and_those_of_val_calibrate(tiny, tmp_path):
    plain = labelled(tiny, tmp_path / "plain", ())
    assert labelled(tiny, tmp_path / "train and test", ("train", "test")) == plain
    by_val = labelled(tiny, tmp_path / "val", ("val",))
    assert by_val["calibration"] != plain["calibration"]
    assert by_val["table"] != plain["table"]


NOTHING = "they measure, and chose nothing"


@pytest.mark.parametrize(
    ("calibration", "captions_from", "train", "val"),
    [
        ("none", "auto_label", NOTHING, "they measure"),
        ("prior", "auto_label", NOTHING, "they measure; the bias was learnt from the scores alone"),
        (
            "platt",
            "auto_label",
            NOTHING,
            "they taught temperature and bias and the cut for balanced_accuracy",
        ),
        ("platt", "ground_truth", "they chose and captioned the subset", "they taught temperature and bias"),
    ],
)
def test_the_metrics_file_says_what_true_labels_were_used_for(tiny, calibration, captions_from, train, val):
    changes = {"calibration": calibration, "prior": (0.5, 0.5) if calibration == "prior" else None}
    changes["decision"] = "balanced_accuracy" if calibration == "platt" else "argmax"
    told = true_labels_for(shrink(tiny, labelling=changes).labelling, captions_from)
    assert (told["train"], told["test"]) == (train, "they measure, and nothing else")
    assert told["val"].startswith(val)
    assert ("flatter" in told["val"]) == ("flattering" in told["overall"]) == (calibration == "platt")
