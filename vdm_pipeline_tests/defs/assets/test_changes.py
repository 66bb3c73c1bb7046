"""The table of changes: which assets each one recomputes. Dagster's own staleness agrees."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from vdm_pipeline.graph import STAGES
from vdm_pipeline.stages.generation import image_records
from vdm_pipeline_tests.defs.assets.graph import (
    computed,
    error_message,
    materialize,
    persistent_instance,
    unsynced,
)
from vdm_pipeline_tests.defs.assets.project import ProjectFolder

ALL = set(STAGES)
SUMMED = {"pipeline_summary", "report"}
MEASURED = {"image_metrics", *SUMMED}
WITH_LORA = {"generated_images", "extra_images", *MEASURED}
ARMS = {"baseline_images", *WITH_LORA}
TRAINED = {"lora_weights", *WITH_LORA}
RELABELLED_THE_SAME = {"labeled_dataset", "label_metrics", "lora_subset", *SUMMED}
REREAD = {"raw_npz", "image_embeddings", "data_faults", "image_metrics", *RELABELLED_THE_SAME}
RELABELLED = {"labeled_dataset", "label_metrics", "label_noise", "lora_subset", *TRAINED}


@dataclass(frozen=True)
class Row:
    """A change, the assets that it recomputes, and those that are stale before the run.

    Dagster does not see changed files.
    """

    what: str
    change: Callable[[ProjectFolder], object]
    computes: set[str]
    unsynced: set[str]
    seen_by_dagster: bool = True


def setting(**sections: dict) -> Callable[[ProjectFolder], None]:
    return lambda finished: finished.change(**sections)


def damage(name: str, change: Callable[[bytes], bytes]) -> Callable[[ProjectFolder], object]:
    return lambda finished: (path := finished.root / name).write_bytes(change(path.read_bytes()))


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def nothing(finished: ProjectFolder) -> None:
    """No change."""


SLOW = {
    "subset size",
    "more training steps",
    "more images",
    "base model's pin",
    "a pixel of a val image for the validation loss",
}
"""Rows that train or generate again, and of whose kind another one is quick."""
TEMPLATES = {"templates": ("a film of {phrase}",)}
TABLE = [
    Row("nothing", nothing, set(), set()),
    Row("labelling prompt", setting(labelling=TEMPLATES), RELABELLED_THE_SAME, {"labeled_dataset", *SUMMED}),
    Row(
        "calibration method",
        setting(labelling={"calibration": "none", "decision": "argmax"}),
        RELABELLED_THE_SAME,
        {"labeled_dataset", "label_metrics", *SUMMED},
    ),
    Row(
        "decision threshold",
        setting(labelling={"decision": "sensitivity"}),
        RELABELLED,
        {"labeled_dataset", "label_metrics", *SUMMED},
    ),
    Row("subset size", setting(subset={"per_class": 6}), {"lora_subset", *TRAINED}, {"lora_subset", *SUMMED}),
    Row("learning rate", setting(training={"learning_rate": 1e-3}), TRAINED, {"lora_weights", *SUMMED}),
    Row("more training steps", setting(training={"max_train_steps": 8}), TRAINED, {"lora_weights", *SUMMED}),
    Row(
        "adapter weight",
        setting(generation={"adapter_weight": 0.5}),
        {"generated_images", *MEASURED},
        {"generated_images", *SUMMED},
    ),
    Row("generation seed", setting(generation={"seed": 7}), ARMS, ARMS - {"image_metrics"}),
    Row("more images", setting(generation={"per_class": 4}), ARMS, ARMS - {"image_metrics"}),
    Row(
        "one more arm",
        setting(generation={"extra": ()}),
        {"extra_images", *MEASURED},
        {"extra_images", *SUMMED},
    ),
    Row("limit of a check", setting(checks={"max_ece": 0.9}), SUMMED, SUMMED),
    Row("name of the profile", lambda finished: finished.rename_profile("mine"), SUMMED, SUMMED),
    Row(
        "licence of a model",
        lambda finished: finished.change(
            training={"base": finished.profile.training.base.model_dump() | {"licence": "MIT, see LICENSE"}}
        ),
        SUMMED,
        SUMMED,
    ),
    Row(
        "batch sizes",
        setting(execution={"generation_batch_size": 3, "label_batch_size": 5, "micro_batch_size": 2}),
        set(),
        set(),
    ),
    Row("device", setting(execution={"device": "auto"}), set(), set()),
    Row("processes and log", setting(execution={"num_processes": 2, "log_every": 1}), set(), set()),
    Row("cron of the schedule", setting(automation={"relabel_cron": "0 4 * * 1"}), set(), set()),
    Row(
        "labeller's pin",
        lambda finished: finished.change(labelling={"model": finished.pin("clip")}),
        {"image_embeddings", "labeled_dataset", *MEASURED},
        {"image_embeddings", "labeled_dataset", *MEASURED},
    ),
    Row(
        "base model's pin",
        lambda finished: finished.change(training={"base": finished.pin("sd")}),
        {"baseline_images", *TRAINED} - {"image_metrics"},
        {"baseline_images", *TRAINED} - {"image_metrics"},
    ),
    Row("archive touched", lambda finished: os.utime(finished.archive, (0, 0)), set(), set()),
    Row(
        "archive compressed again",
        lambda finished: finished.change_archive(lambda arrays: None),
        {"raw_npz", *SUMMED},
        {"raw_npz", *SUMMED},
    ),
    Row(
        "true labels in val",
        ProjectFolder.change_a_true_label,
        {"label_noise", *REREAD} - {"image_embeddings"},
        {"raw_npz", *SUMMED},
    ),
    Row(
        "a pixel of an image outside the subset",
        lambda finished: finished.change_a_pixel("train", selected=False),
        {"label_noise", *REREAD},
        {"raw_npz", *SUMMED},
    ),
    Row(
        "a pixel of an image in the subset",
        lambda finished: finished.change_a_pixel("train", selected=True),
        ALL - {"baseline_images"},
        {"raw_npz", *SUMMED},
    ),
    Row(
        "a pixel of a val image",
        lambda finished: finished.change_a_pixel("val", selected=False),
        REREAD,
        {"raw_npz", *SUMMED},
    ),
    Row(
        "a pixel of a val image for the validation loss",
        lambda finished: finished.change_a_pixel("val", selected=True),
        {"lora_weights", *REREAD},
        {"raw_npz", *SUMMED},
    ),
    Row(
        "a pixel of a test image",
        lambda finished: finished.change_a_pixel("test", selected=False),
        REREAD,
        {"raw_npz", *SUMMED},
    ),
    Row("a duration", lambda finished: finished.change_a_duration("lora_weights"), set(), set()),
    Row(
        "a PNG deleted",
        lambda finished: (finished.results / "generated_images/gen_003.png").unlink(),
        {"generated_images"},
        {"generated_images"},
        False,
    ),
    Row(
        "a table edited",
        damage("results/labeled_dataset.csv", lambda content: content.replace(b"normal", b"pneumonia", 1)),
        {"labeled_dataset"},
        {"labeled_dataset"},
        False,
    ),
    Row(
        "a manifest deleted",
        lambda finished: (finished.results / ".manifests/lora_subset.json").unlink(),
        {"lora_subset"},
        {"lora_subset", "lora_weights", "image_metrics", "report"},
        False,
    ),
    Row(
        "weights corrupted",
        damage("results/lora/pytorch_lora_weights.safetensors", cut),
        {"lora_weights"},
        {"lora_weights"},
        False,
    ),
    Row("folder copied elsewhere", ProjectFolder.move, set(), set()),
    Row(
        "new code of the subset",
        lambda finished: finished.new_code("lora_subset"),
        {"lora_subset", "report"},
        {"lora_subset", "report"},
    ),
    Row(
        "new code of the images",
        lambda finished: finished.new_code("generated_images"),
        {"generated_images", "report"},
        {"generated_images", "report"},
    ),
    Row(
        "upstream recomputed, the same",
        lambda finished: finished.monkeypatch.setenv("VDM_FORCE", "labeled_dataset"),
        {"labeled_dataset"},
        set(),
    ),
]


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.what, marks=pytest.mark.slow if row.what in SLOW else ()) for row in TABLE],
)
def test_exactly_the_affected_assets_are_recomputed(finished, row):
    row.change(finished)
    with persistent_instance(finished.home) as instance:
        assert finished.stale() == row.unsynced
        assert unsynced(finished.profile, finished.root, instance) == (
            row.unsynced if row.seen_by_dagster else set()
        )
        result = materialize(finished.profile, finished.root, instance=instance)
        assert result.success, error_message(result)
        assert computed(result) == row.computes
        finished.monkeypatch.delenv("VDM_FORCE", raising=False)
        assert finished.stale() == unsynced(finished.profile, finished.root, instance) == set()


def test_a_new_instance_learns_what_is_up_to_date(finished):
    with persistent_instance(finished.root.parent / "new home") as instance:
        assert unsynced(finished.profile, finished.root, instance) == ALL
        assert finished.stale() == set()
        assert computed(materialize(finished.profile, finished.root, instance=instance)) == set()
        assert unsynced(finished.profile, finished.root, instance) == set()


def test_more_steps_resume_the_training(finished, printed):
    finished.change(training={"max_train_steps": 8})
    assert computed(materialize(finished.profile, finished.root, ["lora_weights"])) == {"lora_weights"}
    assert "resuming from step 6/8" in printed.readouterr().err


def generated(finished: ProjectFolder, assets: list[str]) -> list[str]:
    """Names of the images that are generated while the assets are materialized."""
    names: list[str] = []
    write = image_records.write_png
    with finished.monkeypatch.context() as patch:
        patch.setattr(
            image_records,
            "write_png",
            lambda path, *given, **named: (names.append(path.name), write(path, *given, **named)),
        )
        assert materialize(finished.profile, finished.root, assets).success
    return sorted(names)


def images(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


@pytest.mark.parametrize("asset", ["generated_images", "baseline_images", "extra_images"])
def test_more_images_generate_only_the_new_ones_and_the_same_as_at_once(finished, asset, printed):
    folder = finished.results / {
        "baseline_images": "generated_images_no_fine_tuning",
        "extra_images": "generated_images_extra/dpm2",
    }.get(asset, asset)
    before = images(folder)
    finished.change(generation={"per_class": 5})
    assert generated(finished, [asset]) == [f"gen_00{index}.png" for index in (6, 7, 8, 9)]
    after = images(folder)
    assert {name: after[name] for name in before} == before
    finished.monkeypatch.setenv("VDM_FORCE", asset)
    assert len(generated(finished, [asset])) == 10
    assert images(folder) == after
    label = "extra_images: dpm2" if asset == "extra_images" else asset
    assert f" - {label}: images: 10/10" in printed.readouterr().err


def test_fewer_images_generate_none(finished):
    finished.change(generation={"per_class": 2})
    assert generated(finished, ["generated_images", "baseline_images"]) == []
    assert list(images(finished.results / "generated_images")) == [f"gen_00{index}.png" for index in range(4)]


def test_only_a_deleted_or_changed_image_is_generated_again(finished):
    folder = finished.results / "generated_images"
    before = images(folder)
    (folder / "gen_001.png").unlink()
    (folder / "gen_004.png").write_bytes(before["gen_002.png"])
    assert generated(finished, ["generated_images"]) == ["gen_001.png", "gen_004.png"]
    assert images(folder) == before


def test_a_new_stage_version_reuses_no_image(finished):
    finished.new_code("baseline_images")
    assert len(generated(finished, ["baseline_images"])) == 6


def test_lost_weights_are_restored_without_training(finished, printed):
    weights = finished.results / "lora/pytorch_lora_weights.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(cut(before))
    assert materialize(finished.profile, finished.root, ["lora_weights"]).success
    assert weights.read_bytes() == before
    assert "resuming from step 6/6" in printed.readouterr().err


@pytest.mark.slow
def test_the_button_for_unsynced_assets_takes_several_clicks(finished, printed):
    finished.change(generation={"adapter_weight": 0.5})
    with persistent_instance(finished.home) as instance:
        clicks = []
        while selected := unsynced(finished.profile, finished.root, instance):
            result = materialize(
                finished.profile, finished.root, sorted(selected), instance, tags={"dagster/from_ui": "true"}
            )
            assert result.success, error_message(result)
            clicks.append(computed(result))
        assert clicks == [{"generated_images"}, MEASURED]
        warning = "is skipped for now: an input is stale. Press 'Materialize unsynced' again."
        assert warning in printed.readouterr().err
        assert finished.stale() == set()


def test_the_same_selection_on_the_command_line_fails(finished):
    finished.change(generation={"adapter_weight": 0.5})
    result = materialize(finished.profile, finished.root, ["generated_images", "pipeline_summary"])
    assert not result.success
    assert error_message(result).startswith("Asset image_metrics is stale")


def test_manifests_of_a_release_without_parts_are_stale_and_not_damaged(finished):
    for path in (finished.results / ".manifests").glob("*.json"):
        record = json.loads(path.read_text())
        if record.pop("versions", None):
            inputs = dict.fromkeys((name.split(".")[0] for name in record["inputs"]), "0" * 16)
            old = {"inputs": inputs, "code_version": "1-0123456789abcdef", "fingerprint": "0123456789abcdef"}
            path.write_text(json.dumps(record | old))
    assert finished.stale() == ALL
    result = materialize(finished.profile, finished.root, ["raw_npz", "baseline_images"])
    assert computed(result) == {"raw_npz", "baseline_images"}, error_message(result)
