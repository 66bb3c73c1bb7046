"""The table of changes: after each, exactly which assets compute and which are re-used; Dagster's own view says the same."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from vdm_pipeline.graph import STAGES
from vdm_pipeline.stages.generation import draw
from vdm_pipeline_tests.defs.assets.graph import computed, lasting, materialize, sentence, unsynced
from vdm_pipeline_tests.defs.assets.project import ProjectFolder

ALL = set(STAGES)
SUMMED = {"pipeline_summary", "report"}
MEASURED = {"image_metrics", *SUMMED}
WITH_LORA = {"generated_images", "extra_images", *MEASURED}
ARMS = {"baseline_images", *WITH_LORA}
TRAINED = {"lora_weights", *WITH_LORA}
RELABELLED = {"labeled_dataset", "label_metrics", "label_noise", "lora_subset", *TRAINED}


@dataclass(frozen=True)
class Row:
    """A change, what computes after it, and what was seen to be unsynced before: by us, and by Dagster, which sees no files."""

    what: str
    change: Callable[[ProjectFolder], object]
    computes: set[str]
    unsynced: set[str]
    seen_by_dagster: bool = True


def setting(**sections: dict) -> Callable[[ProjectFolder], None]:
    return lambda made: made.change(**sections)


def damage(name: str, change: Callable[[bytes], bytes]) -> Callable[[ProjectFolder], object]:
    return lambda made: (path := made.root / name).write_bytes(change(path.read_bytes()))


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def nothing(made: ProjectFolder) -> None:
    """As it is."""


TEMPLATES = {"templates": ("a film of {phrase}",)}
TABLE = [
    Row("nothing", nothing, set(), set()),
    Row("labelling prompt", setting(labelling=TEMPLATES), RELABELLED, {"labeled_dataset", *SUMMED}),
    Row(
        "calibration method",
        setting(labelling={"calibration": "none", "decision": "argmax"}),
        RELABELLED,
        {"labeled_dataset", "label_metrics", *SUMMED},
    ),
    Row("subset size", setting(subset={"per_class": 6}), {"lora_subset", *TRAINED}, {"lora_subset", *SUMMED}),
    Row("learning rate", setting(training={"learning_rate": 1e-3}), TRAINED, {"lora_weights", *SUMMED}),
    Row("steps raised", setting(training={"max_train_steps": 8}), TRAINED, {"lora_weights", *SUMMED}),
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
    Row(
        "licence of a model",
        lambda made: made.change(
            training={"base": made.profile.training.base.model_dump() | {"licence": "MIT, see LICENSE"}}
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
    Row("clock of the schedule", setting(automation={"relabel_cron": "0 4 * * 1"}), set(), set()),
    Row(
        "labeller's pin",
        lambda made: made.change(labelling={"model": made.pin("clip")}),
        {"image_embeddings", "labeled_dataset", *MEASURED},
        {"image_embeddings", "labeled_dataset", *MEASURED},
    ),
    Row(
        "base's pin",
        lambda made: made.change(training={"base": made.pin("sd")}),
        {"baseline_images", *TRAINED},
        {"baseline_images", *TRAINED} - {"image_metrics"},
    ),
    Row("archive touched", lambda made: os.utime(made.archive, (0, 0)), set(), set()),
    Row(
        "a pixel of an image that is not learnt from",
        lambda made: made.change_a_pixel(of_the_subset=False),
        ALL - {"baseline_images"} - (TRAINED - MEASURED),
        {"raw_npz", *SUMMED},
    ),
    Row(
        "a pixel of an image that is learnt from",
        lambda made: made.change_a_pixel(of_the_subset=True),
        ALL - {"baseline_images"},
        {"raw_npz", *SUMMED},
    ),
    Row(
        "a PNG deleted",
        lambda made: (made.results / "generated_images/gen_003.png").unlink(),
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
        "a record deleted",
        lambda made: (made.results / ".manifests/lora_subset.json").unlink(),
        {"lora_subset"},
        {"lora_subset", "lora_weights", *MEASURED},
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
        "new code of the subset", lambda made: made.new_code("lora_subset"), {"lora_subset"}, {"lora_subset"}
    ),
    Row(
        "new code of the images",
        lambda made: made.new_code("generated_images"),
        {"generated_images"},
        {"generated_images"},
    ),
    Row(
        "upstream made again, the same",
        lambda made: made.monkeypatch.setenv("VDM_FORCE", "labeled_dataset"),
        {"labeled_dataset"},
        set(),
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.what)
def test_exactly_what_changed_is_made(made, row):
    row.change(made)
    with lasting(made.home) as instance:
        assert made.stale() == row.unsynced
        assert unsynced(made.profile, made.root, instance) == (row.unsynced if row.seen_by_dagster else set())
        result = materialize(made.profile, made.root, instance=instance)
        assert result.success, sentence(result)
        assert computed(result) == row.computes
        made.monkeypatch.delenv("VDM_FORCE", raising=False)
        assert made.stale() == unsynced(made.profile, made.root, instance) == set()


def test_a_new_instance_learns_what_stands(made):
    with lasting(made.root.parent / "new home") as instance:
        assert unsynced(made.profile, made.root, instance) == ALL
        assert made.stale() == set()
        assert computed(materialize(made.profile, made.root, instance=instance)) == set()
        assert unsynced(made.profile, made.root, instance) == set()


def test_more_steps_go_on_with_the_training(made, capsys):
    made.change(training={"max_train_steps": 8})
    assert computed(materialize(made.profile, made.root, ["lora_weights"])) == {"lora_weights"}
    assert "going on from step 6 of 8" in capsys.readouterr().err


def drawn(made: ProjectFolder, assets: list[str]) -> list[str]:
    """Names of the images that are drawn while the assets are made."""
    names: list[str] = []
    write = draw.write_png
    with made.monkeypatch.context() as patch:
        patch.setattr(
            draw,
            "write_png",
            lambda path, *given, **named: (names.append(path.name), write(path, *given, **named)),
        )
        assert materialize(made.profile, made.root, assets).success
    return sorted(names)


def images(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


@pytest.mark.parametrize("asset", ["generated_images", "baseline_images", "extra_images"])
def test_more_images_draw_the_new_ones_alone_and_the_same_as_in_one_go(made, asset):
    place = made.results / {
        "baseline_images": "generated_images_no_fine_tuning",
        "extra_images": "generated_images_extra/dpm2",
    }.get(asset, asset)
    before = images(place)
    made.change(generation={"per_class": 5})
    assert drawn(made, [asset]) == [f"gen_00{index}.png" for index in (6, 7, 8, 9)]
    after = images(place)
    assert {name: after[name] for name in before} == before
    made.monkeypatch.setenv("VDM_FORCE", asset)
    assert len(drawn(made, [asset])) == 10
    assert images(place) == after


def test_fewer_images_draw_none(made):
    made.change(generation={"per_class": 2})
    assert drawn(made, ["generated_images", "baseline_images"]) == []
    assert list(images(made.results / "generated_images")) == [f"gen_00{index}.png" for index in range(4)]


def test_a_deleted_or_repainted_image_alone_is_drawn_again(made):
    folder = made.results / "generated_images"
    before = images(folder)
    (folder / "gen_001.png").unlink()
    (folder / "gen_004.png").write_bytes(before["gen_002.png"])
    assert drawn(made, ["generated_images"]) == ["gen_001.png", "gen_004.png"]
    assert images(folder) == before


def test_new_code_of_a_stage_takes_no_old_image_over(made):
    made.new_code("baseline_images")
    assert len(drawn(made, ["baseline_images"])) == 6


def test_weights_that_are_made_again_are_not_trained_again(made, capsys):
    weights = made.results / "lora/pytorch_lora_weights.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(cut(before))
    assert materialize(made.profile, made.root, ["lora_weights"]).success
    assert weights.read_bytes() == before
    assert "going on from step 6 of 6" in capsys.readouterr().err


def test_the_uis_button_for_what_is_unsynced_goes_step_by_step(made):
    made.change(generation={"adapter_weight": 0.5})
    with lasting(made.home) as instance:
        clicks = []
        while asked := unsynced(made.profile, made.root, instance):
            result = materialize(
                made.profile, made.root, sorted(asked), instance, tags={"dagster/from_ui": "true"}
            )
            assert result.success, sentence(result)
            clicks.append(computed(result))
        assert clicks == [{"generated_images"}, MEASURED]
        assert made.stale() == set()


def test_the_same_choice_on_the_command_line_is_refused(made):
    made.change(generation={"adapter_weight": 0.5})
    result = materialize(made.profile, made.root, ["generated_images", "pipeline_summary"])
    assert not result.success
    assert "Asset image_metrics was made with other settings or from other inputs; run: dagster" in sentence(
        result
    )
