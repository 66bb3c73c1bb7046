"""Tables: every figure, and a text where there is none."""

import pytest

from vdm_pipeline.stages.report.cautions import cautions
from vdm_pipeline.stages.report.formatting import number, percent, with_interval
from vdm_pipeline.stages.report.image_tables import (
    HIGHER_IS_BETTER,
    SET_METRICS,
    copies_table,
    metrics_table,
    paired_table,
    utility_table,
)
from vdm_pipeline.stages.report.label_tables import fault_table, is_calibrated, label_table
from vdm_pipeline.stages.report.lineage import cost_table, images_per_second, lineage_table
from vdm_pipeline.stages.report.tables import Cell, Table, metric_cell
from vdm_pipeline_tests.stages.report.example import CLASS_NAMES, GROUPS, image_metrics, metric

KID = SET_METRICS["kid"]


def cell(table: Table, block: int, row: str, column: str) -> Cell:
    (cells,) = [line.cells for line in table.blocks[block].rows if line.title == row]
    return cells[table.columns.index(column)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"),
        (12.345, "12.3"),
        (1234.5, "1234"),
        (7, "7"),
        (None, "not measured"),
        ("x", "not measured"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_intervals():
    assert with_interval({"value": 1234.5, "ci95": [999.7, 1500.2]}) == "1234 [1000, 1500]"
    assert percent(metric(0.5)) == "50% [40%, 60%]"
    assert with_interval({"value": 0.5}) == "0.5"


@pytest.mark.parametrize("missing", [None, {}, {"value": None, "ci95": None}])
def test_missing_values_are_not_measured(missing):
    assert with_interval(missing) == percent(missing) == metric_cell(missing).text == "not measured"


def test_metrics_table_has_real_images_first_and_last():
    images = image_metrics()
    table = metrics_table(images, "pneumonia")
    assert table.columns == ["real (control)", "baseline", "LoRA", "dpm25", "real, against test"]
    for column, arm in (("LoRA", images["lora"]), ("dpm25", images["extra"]["dpm25"])):
        kid = arm["pneumonia"]["independent"]["kid"]
        low, high = map(number, kid["ci95"])
        assert cell(table, 2, KID, column) == (number(kid["value"]), f"[{low}, {high}]")
    assert cell(metrics_table({}, "overall"), 1, KID, "LoRA") == Cell("not measured")


def test_fid_of_few_images_is_a_caution():
    images = image_metrics() | {"real": {}}
    overall = images["lora"]["overall"]
    assert "FID needs 2048 images" in cautions(images)[0]
    overall["n"] = 2048
    assert "FID needs 2048 images" in cautions(images)[0]
    overall["n_reference"] = 2048
    assert cautions(images) == cautions({}) == []


def test_few_real_images_and_classes_without_reference_are_cautions():
    images = {
        "lora": {"overall": {"n": 10}},
        "real": {"overall": {"n": 9}},
        "reference": {"split": "val", "absent": ["normal", "sick"]},
    }
    few_real, absent = cautions(images)
    assert "9 real images" in few_real and "10 images of an arm" in few_real
    assert "val split has no images of normal, sick" in absent
    images["real"]["overall"]["n"] = 10
    assert cautions(images) == [absent]


def test_few_reference_images_are_a_caution():
    images = {"lora": {"overall": {"n_reference": 3}}, "reference": {"n": 61}}
    assert "3 of 61 held-out images" in cautions(images)[0]
    images["lora"]["overall"]["n_reference"] = 50
    assert cautions(images) == []


def test_paired_table():
    images = image_metrics()
    table = paired_table(images, GROUPS)
    assert cell(table, 0, "pairs", "normal") == Cell("128")
    p = images["paired"]["sharpness"]["normal"]["p"]
    assert cell(table, 0, "sharpness", "normal").detail.endswith(f"p = {p:.2g}")


def test_copies_table_has_a_control():
    images = image_metrics()
    table = copies_table(images)
    assert table.columns == ["real (control)", "baseline", "LoRA", "dpm25"]
    exact = images["memorization"]["arms"]["lora"]["duplicates"]["exact"]
    assert cell(table, 2, "pixel-identical to another image of the arm", "LoRA").text == str(exact)


def test_utility_table_has_the_gain_over_repeated_images():
    images = image_metrics()
    gain = images["utility"]["gains"]["real_twice"]["value"]
    table = utility_table(images, CLASS_NAMES)
    assert cell(table, 1, "minus real twice", f"balanced accuracy{HIGHER_IS_BETTER}").text == number(gain)


@pytest.mark.parametrize(
    "table", [paired_table({}, GROUPS), copies_table({}), utility_table({}, CLASS_NAMES)]
)
def test_tables_without_metrics(table):
    texts = {cell.text for block in table.blocks for row in block.rows for cell in row.cells}
    assert texts <= {"not measured", ""}


def test_label_table_distinguishes_missing_from_undefined():
    scores = {"n": 3, "accuracy": 0.9, "accuracy_ci95": [0.8, 0.95], "roc_auc": None}
    table = label_table({"test": scores | {"uncalibrated": {"n": 3, "accuracy": 0.8}}})
    assert table.columns == ["test", "test, plain argmax"]
    assert cell(table, 0, "accuracy", "test") == ("0.900", "[0.800, 0.950]")
    assert cell(table, 0, "accuracy", "test, plain argmax") == Cell("0.800")
    assert cell(table, 0, "ROC AUC", "test").text == "undefined"
    assert cell(table, 0, "F1", "test").text == "not measured"


def test_labels_are_calibrated_if_they_differ_from_the_plain_argmax():
    scores = {"n": 3, "accuracy": 0.9}
    assert is_calibrated({"test": scores | {"uncalibrated": {"accuracy": 0.8}}})
    assert not is_calibrated({"test": scores | {"uncalibrated": scores}})


@pytest.mark.parametrize(
    ("exclude", "handling"),
    [(("near_duplicate",), "excluded from the subset"), ((), "allowed in the subset (profile setting)")],
)
def test_handling_of_faults(exclude, handling):
    faults = {"faults": {"near_duplicate": {"train": 18, "train also in val": 8, "test": 3}}}
    rows = fault_table(faults, exclude).blocks[0].rows
    assert [[cell.text for cell in row.cells] for row in rows] == [
        ["train", "18", handling],
        ["train also in val", "8", "never in the subset"],
        ["test", "3", "counted only; val and test are used unfiltered"],
    ]
    assert {row.title for row in rows} == {"near duplicate"}


def test_no_faults_differ_from_unmeasured_ones():
    assert fault_table({"faults": {}}, ()).blocks[0].rows[0].title == "none found"
    assert fault_table({}, ()).blocks[0].rows[0].title == "not measured"


def test_lineage_of_the_manifests(inputs):
    table = lineage_table(inputs.manifests)
    assert cell(table, 0, "generated_images", "data versions").text == "pixels abc\nrecords def"
    assert cell(table, 0, "generated_images", "inputs").text == "raw_npz.labels 12345678abcdef00"
    assert lineage_table({}).blocks[0].rows[0].title == "not measured"


def test_cost_of_the_manifests(inputs):
    table = cost_table(inputs.manifests)
    assert cell(table, 0, "generated_images", "images per second").text == "41.5"
    assert cell(table, 0, "lora_weights", "images per second").text == "41.5"
    assert cell(table, 0, "total", "seconds").text == "24.5"
    assert cost_table({}).blocks[0].rows[0].title == "not measured"


@pytest.mark.parametrize(
    ("asset", "metadata", "speed"),
    [
        (
            "extra_images",
            {"arms": 2, "n_a": 6, "n_b": 6, "images_per_s_a": 2.0, "images_per_s_b": 6.0},
            12 / (6 / 2 + 6 / 6),
        ),
        ("extra_images", {"arms": 2, "n_a": 6, "n_b": 6, "images_per_s_a": 2.0}, None),  # b was reused
        ("extra_images", {"arms": 0}, None),
        ("raw_npz", {"n": 5, "n_train": "3 normal"}, None),
    ],
)
def test_speed_of_all_arms_together(inputs, asset, metadata, speed):
    changes = {"asset": asset, "metadata": metadata}
    assert images_per_second(inputs.manifests["generated_images"].model_copy(update=changes)) == speed
