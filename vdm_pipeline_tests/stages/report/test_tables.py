"""Tables: every figure, in words where there is none."""

import pytest
from vdm_pipeline.stages.report.wording import interval, number, share

from vdm_pipeline.stages.report.image_tables import (
    cautions,
    copies_table,
    metrics_table,
    paired_table,
    utility_table,
)
from vdm_pipeline.stages.report.lineage import cost_table, images_per_second, lineage_table
from vdm_pipeline.stages.report.tables import Cell, Table, calibrated, fault_table, label_table, metric_cell
from vdm_pipeline_tests.stages.report.example import GROUPS, NAMES, filled, metric


def cell(table: Table, block: int, row: str, column: str) -> Cell:
    found = next(line for line in table.blocks[block].rows if line.title == row)
    return found.cells[table.columns.index(column)]


def test_numbers_have_three_digits():
    assert [number(v) for v in (0.5, 12.345, 1234.5, 7, None, "x")] == [
        "0.500",
        "12.3",
        "1234",
        "7",
        "not measured",
        "not measured",
    ]
    assert interval({"value": 1234.5, "ci95": [999.7, 1500.2]}) == "1234 [1000, 1500]"
    assert share(metric(0.5)) == "50% [40%, 60%]"


@pytest.mark.parametrize("absent", [None, {}, {"value": None, "ci95": None}])
def test_absent_value_is_not_invented(absent):
    assert interval(absent) == share(absent) == metric_cell(absent).text == "not measured"


def test_arms_stand_beside_the_floor():
    images = filled()
    table = metrics_table(images, "pneumonia")
    assert table.columns == [
        "real against real: the floor",
        "baseline",
        "with LoRA",
        "dpm25",
        "the same real images, against test",
    ]
    for column, arm in (("with LoRA", images["lora"]), ("dpm25", images["extra"]["dpm25"])):
        value = arm["pneumonia"]["independent"]["kid"]
        assert cell(table, 2, "KID ↓", column) == (
            number(value["value"]),
            f"[{number(value['ci95'][0])}, {number(value['ci95'][1])}]",
        )
    assert cell(metrics_table({}, "overall"), 1, "KID ↓", "with LoRA") == Cell("not measured")


def test_fid_of_few_images_is_warned_of():
    images = filled() | {"real": {}}
    assert "FID needs 2048 images" in cautions(images)[0]
    images["lora"]["overall"]["n"] = 2048
    assert "FID needs 2048 images" in cautions(images)[0]
    images["lora"]["overall"]["n_reference"] = 2048
    assert cautions(images) == cautions({}) == []


def test_a_floor_of_fewer_images_and_classes_without_reference_are_warned_of():
    images = {
        "lora": {"overall": {"n": 10}},
        "real": {"overall": {"n": 9}},
        "reference": {"split": "val", "absent": ["normal", "sick"]},
    }
    smaller, absent = cautions(images)
    assert "9 real images for the 10 of an arm" in smaller and "val holds no image of normal, sick" in absent
    images["real"]["overall"]["n"] = 10
    assert cautions(images) == [absent]


def test_a_class_with_few_references_is_warned_of():
    images = {"lora": {"overall": {"n_reference": 3}}, "reference": {"n": 61}}
    assert "only 3 of 61 held-out images" in cautions(images)[0]
    images["lora"]["overall"]["n_reference"] = 50
    assert cautions(images) == []


def test_paired_copies_and_utility_have_their_controls():
    images = filled()
    found = images["paired"]["sharpness"]["normal"]
    assert cell(paired_table(images, GROUPS), 0, "pairs", "normal") == Cell("128")
    assert cell(paired_table(images, GROUPS), 0, "sharpness", "normal").beneath.endswith(
        f"p = {found['p']:.2g}"
    )
    table = copies_table(images)
    assert table.columns == ["real, never trained on: control", "baseline", "with LoRA", "dpm25"]
    assert cell(table, 2, "another of them, pixel by pixel", "with LoRA").text == str(
        images["memorization"]["arms"]["lora"]["duplicates"]["exact"]
    )
    table = utility_table(images, NAMES)
    gain = images["utility"]["gains"]["real_twice"]["value"]
    assert cell(table, 1, "minus the same real images twice", "balanced accuracy ↑").text == number(gain)
    for table in (paired_table({}, GROUPS), copies_table({}), utility_table({}, NAMES)):
        assert {found.text for block in table.blocks for row in block.rows for found in row.cells} <= {
            "not measured",
            "",
        }


def test_labels_tell_absent_from_undefined_and_show_plain_argmax():
    scores = {"n": 3, "accuracy": 0.9, "accuracy_ci95": [0.8, 0.95], "roc_auc": None}
    table = label_table({"test": scores | {"uncalibrated": {"n": 3, "accuracy": 0.8}}})
    assert table.columns == ["test", "test, plain argmax"]
    assert cell(table, 0, "accuracy", "test") == ("0.900", "[0.800, 0.950]")
    assert cell(table, 0, "accuracy", "test, plain argmax") == Cell("0.800")
    assert cell(table, 0, "ROC AUC", "test").text == "undefined"
    assert cell(table, 0, "F1", "test").text == "not measured"
    assert calibrated({"test": scores | {"uncalibrated": {"accuracy": 0.8}}})
    assert not calibrated({"test": scores | {"uncalibrated": scores}})


def test_what_is_done_about_faults():
    faults = {"faults": {"near_duplicate": {"train": 18, "train also in val": 8, "test": 3}}}
    done = [
        ["left out of the subset", "allowed in the subset, as the profile says"],
        ["never in the subset"] * 2,
    ]
    done.append(["counted; val and test are used as they are"] * 2)
    for kind, exclude in enumerate((("near_duplicate",), ())):
        rows = fault_table(faults, exclude).blocks[0].rows
        assert [[found.text for found in row.cells] for row in rows] == [
            ["train", "18", done[0][kind]],
            ["train also in val", "8", done[1][kind]],
            ["test", "3", done[2][kind]],
        ]
        assert {row.title for row in rows} == {"near duplicate"}
    assert fault_table({"faults": {}}, ()).blocks[0].rows[0].title == "none found"
    assert fault_table({}, ()).blocks[0].rows[0].title == "not measured"


def test_lineage_and_cost_are_those_of_the_records(run):
    made = cell(lineage_table(run.manifests), 0, "generated_images", "made from")
    assert made.text == "raw_npz 12345678"
    assert (
        cell(lineage_table(run.manifests), 0, "generated_images", "files, sha256").text
        == "metadata.jsonl 0123456789ab\n1 PNG"
    )
    assert cell(cost_table(run.manifests), 0, "generated_images", "images a second").text == "41.5"
    assert cell(cost_table(run.manifests), 0, "lora_weights", "images a second").text == "41.5"
    assert cell(cost_table(run.manifests), 0, "together", "seconds").text == "24.5"
    assert (
        cost_table({}).blocks[0].rows[0].title == lineage_table({}).blocks[0].rows[0].title == "not measured"
    )


def test_speed_of_extra_arms_is_that_of_all_together(run):
    facts = {"arms": 2, "n_a": 6, "n_b": 6, "images_per_s_a": 2.0, "images_per_s_b": 6.0}
    record = run.manifests["generated_images"].model_copy(update={"asset": "extra_images", "metadata": facts})
    assert images_per_second(record) == 12 / (6 / 2 + 6 / 6)
    del facts["images_per_s_b"]
    assert images_per_second(record.model_copy(update={"metadata": facts})) is None, (
        "images of an earlier run were taken over"
    )
    assert images_per_second(record.model_copy(update={"metadata": {"arms": 0}})) is None
    assert (
        images_per_second(
            record.model_copy(update={"asset": "raw_npz", "metadata": {"n": 5, "n_train": "3 normal"}})
        )
        is None
    )
