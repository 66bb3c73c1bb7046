"""The page: self-contained, escaped, honest."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import data_uri, read_png, write_png
from vdm_pipeline.io.tables import write_csv, write_json, write_rows
from vdm_pipeline.stages.report.contact_sheet import contact_sheet
from vdm_pipeline.stages.report.page import ReportInputs, gallery, render_report
from vdm_pipeline.stages.report.tables import calibrated, fault_rows, label_rows, number
from vdm_pipeline.stages.report.verdict import interval, verdict


def metrics(kid: dict[str, tuple[float, float, float]], agreement: dict[str, float]) -> dict:
    report = {}
    for arm in ("real", "baseline", "lora"):
        value, low, high = kid[arm]
        group = {"kid": {"value": value, "ci95": [low, high]}, "label_agreement": {"value": agreement[arm], "ci95": [0, 1]}}
        report[arm] = {name: group for name in ("overall", "normal", "pneumonia")}
    return report


LABELS = {
    "test": {"accuracy": 0.9, "majority_baseline_accuracy": 0.625, "balanced_accuracy": 0.88, "roc_auc": 0.95, "roc_auc_ci95": [0.9, 0.97]}
}
CLOSER = {"real": (0, -0.1, 0.1), "baseline": (2, 1.8, 2.2), "lora": (0.5, 0.3, 0.7)}
NAMES = ("normal", "pneumonia")


def said(labels: dict, images: dict) -> list[tuple[bool, str]]:
    return verdict(labels, images, NAMES)


def test_good_news_is_told_with_its_figures():
    news = said(LABELS, metrics(CLOSER, {"real": 0.95, "baseline": 0.1, "lora": 0.9}))
    assert [good for good, _ in news] == [True, True, True, True]
    assert "0.500" not in news[0][1]
    assert "accuracy 0.900 against 0.625" in news[0][1]
    assert "closer to real images" in news[1][1]
    assert "0.5 [0.3, 0.7] against 2 [1.8, 2.2]" in news[1][1]


def test_constant_labels_are_no_good_news():
    constant = {"test": LABELS["test"] | {"accuracy": 0.625, "balanced_accuracy": 0.5, "roc_auc": 0.5, "roc_auc_ci95": [0.45, 0.55]}}
    good, sentence = said(constant, metrics(CLOSER, {"real": 1, "baseline": 1, "lora": 1}))[0]
    assert not good
    assert "do not clearly beat a constant answer" in sentence


@pytest.mark.parametrize(
    ("lora", "words"), [((2.0, 1.7, 2.3), "not clearly nearer to or farther from"), ((5.0, 4.5, 5.5), "farther from real images than")]
)
def test_distance_that_did_not_fall_is_said_plainly(lora, words):
    good, sentence = said(LABELS, metrics(CLOSER | {"lora": lora}, {"real": 1, "baseline": 1, "lora": 1}))[1]
    assert not good
    assert words in sentence


def test_judge_that_disagrees_is_said_plainly():
    news = said(LABELS, metrics(CLOSER, {"real": 0.95, "baseline": 0.4, "lora": 0.2}))
    assert [good for good, _ in news[2:]] == [False, False]


@pytest.mark.parametrize(("lora", "good"), [((0.97, 0.92, 1.0), True), ((0.80, 0.72, 0.90), False)])
def test_agreement_is_worse_only_where_the_intervals_part(lora, good):
    images = metrics(CLOSER, {"real": 1, "baseline": 1, "lora": 1})
    images["baseline"]["normal"] = {"label_agreement": {"value": 0.99, "ci95": [0.95, 1.0]}}
    images["lora"]["normal"] = {"label_agreement": {"value": lora[0], "ci95": list(lora[1:])}}
    found, sentence = said(LABELS, images)[2]
    assert found is good
    assert ("worse than without" in sentence) is not good


def test_guessing_among_more_classes_is_right_less_often():
    labels = {"test": LABELS["test"] | {"balanced_accuracy": 0.4}}
    images = metrics(CLOSER, {"real": 1, "baseline": 1, "lora": 1})
    assert verdict(labels, images, ("a", "b", "c"))[0][0]
    assert not verdict(labels, images, ("a", "b"))[0][0]


def test_absent_value_is_not_invented():
    assert interval(None) == interval({"value": None, "ci95": None}) == "not measured"


def test_absent_figures_have_no_verdict():
    news = said({}, {"lora": {"overall": {}}})
    assert [good for good, _ in news] == [None] * 4
    assert all("not measured" in sentence for _, sentence in news)


def test_numbers_have_three_digits():
    assert [number(v) for v in (0.5, 12.345, 1234.5, 7, None)] == ["0.500", "12.3", "1234", "7", "not measured"]
    assert interval({"value": 1234.5, "ci95": [999.7, 1500.2]}) == "1234 [1000, 1500]"


def test_label_rows_tell_absent_from_undefined_and_show_plain_argmax():
    scores = {"n": 3, "accuracy": 0.9, "roc_auc": None}
    used, plain = label_rows({"test": scores | {"uncalibrated": {"n": 3, "accuracy": 0.8}}})
    assert (used[2], plain[2], plain[0]) == ("0.900", "0.800", "test, plain argmax")
    assert "undefined" in used and "not measured" in used
    assert calibrated({"test": scores | {"uncalibrated": {"accuracy": 0.8}}})
    assert not calibrated({"test": scores | {"uncalibrated": scores}})


PROMPT = "<img onerror=alert(1) src=x>"


@pytest.fixture
def run(tmp_path: Path, tiny) -> ReportInputs:
    """A fabricated run: three images a class and arm, each of a grey of its own."""
    for shift, arm in enumerate(("baseline", "generated")):
        rows = []
        for index in range(6):
            write_png(tmp_path / arm / f"gen_{index:03d}.png", np.full((64, 64), 10 * index + 100 * shift, np.uint8))
            rows.append({"file_name": f"gen_{index:03d}.png", "label": NAMES[index // 3], "prompt": PROMPT, "seed": 42 + index, "steps": 2})
        write_rows(tmp_path / arm / "metadata.jsonl", rows)
    write_png(tmp_path / "subset/images/a.png", np.zeros((64, 64), np.uint8))
    write_rows(tmp_path / "subset/metadata.jsonl", [{"file_name": "images/a.png", "text": PROMPT, "ground_truth": "normal"}])
    for picture in ("label_plots/roc.png", "label_plots/scores.png", "lora/loss.png"):
        write_png(tmp_path / picture, np.zeros((4, 4), np.uint8))
    suspects = {"image_id": ["a", "null"], "label": [PROMPT, "normal"], "suggested": ["normal", "pneumonia"], "quality": [0.1, 0.2]}
    write_csv(tmp_path / "suspects.csv", pd.DataFrame(suspects))
    faults = {"duplicate": {"train": 18, "train also in val": 8, "test": 3}}
    write_json(tmp_path / "faults.json", {"faults": faults, "classes": {"val": {"normal": 135, "pneumonia": 389}}})
    write_json(tmp_path / "summary.json", {"num_generated": 6})
    write_json(tmp_path / "labels.json", LABELS)
    write_json(tmp_path / "images.json", metrics(CLOSER | {"lora": (5, 4.5, 5.5)}, {"real": 1, "baseline": 0.5, "lora": 0.9}))
    files = {key: tmp_path / f"{key}.json" for key in ("summary",)}
    files |= {"label_metrics": tmp_path / "labels.json", "image_metrics": tmp_path / "images.json"}
    files |= {"faults": tmp_path / "faults.json", "suspects": tmp_path / "suspects.csv"}
    files |= {name: tmp_path / name for name in ("label_plots", "subset", "lora", "generated", "baseline")}
    doubted = np.zeros((2, 28, 28), np.uint8)
    return ReportInputs(profile=tiny, real={name: np.zeros((4, 64, 64), np.uint8) for name in NAMES}, doubted=doubted, **files)


def rendered(run: ReportInputs, folder: Path) -> str:
    render_report(folder / "index.html", run)
    return (folder / "index.html").read_text(encoding="utf-8")


def test_page_loads_nothing_and_escapes(run, tmp_path):
    page = rendered(run, tmp_path)
    assert re.search(r"<(script|link|iframe)\b|url\(|@import", page) is None
    sources = re.findall(r"""src=["']?([^"'\s>]+)""", page.replace("src=x", ""))
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert PROMPT not in page and "&lt;img onerror" in page


def test_page_says_what_it_lacks_and_what_failed(run, tmp_path):
    page = rendered(run, tmp_path)
    assert page.count("not measured") > 10
    assert "farther from real images than" in page
    assert "no patient data" in page
    for path in (run.image_metrics, run.label_metrics, run.summary):
        write_json(path, {})
    (run.lora / "loss.png").unlink()
    (run.label_plots / "roc.png").unlink()
    assert "Whether the LoRA brings images closer to real ones: not measured." in rendered(run, tmp_path)


def test_page_shows_doubted_labels_and_what_is_done_about_faults(run, tmp_path):
    page = rendered(run, tmp_path)
    assert page.count('alt="doubted image"') == page.count('alt="plot of the labels"') == 2
    assert "null<br>labelled normal, rather pneumonia" in page
    left_out = [["duplicate", "train", "18"], ["duplicate", "train also in val", "8"], ["duplicate", "test", "3"]]
    done = ["left out of the subset", "never in the subset", "counted; val and test are used as they are"]
    rows = [[*row, what] for row, what in zip(left_out, done, strict=True)]
    assert fault_rows(json.loads(run.faults.read_text()), ("duplicate",)) == rows
    assert all("</td><td>".join(row) in page for row in rows)
    assert "val 135 normal, 389 pneumonia" in page
    allowed = fault_rows(json.loads(run.faults.read_text()), ())
    assert [row[3] for row in allowed] == ["allowed in the subset, as the profile says", *done[1:]]


def test_gallery_pairs_by_index(run):
    for block, name in zip(gallery(run), NAMES, strict=True):
        for pair in block["pairs"]:
            index = pair["seed"] - 42
            assert NAMES[index // 3] == name
            assert pair["baseline"] == data_uri(read_png(run.baseline, f"gen_{index:03d}.png"))
            assert pair["lora"] == data_uri(read_png(run.generated, f"gen_{index:03d}.png"))


@pytest.mark.parametrize("key", ["seed", "prompt"])
def test_images_that_are_no_pair_are_refused(run, tmp_path, key):
    rows = [json.loads(line) for line in (run.baseline / "metadata.jsonl").read_text().splitlines()]
    write_rows(run.baseline / "metadata.jsonl", [rows[0] | {key: 7}, *rows[1:]])
    with pytest.raises(PipelineError, match=rf"gen_000.png .* differ in {key}"):
        rendered(run, tmp_path)
    assert not (tmp_path / "index.html").exists()


def test_contact_sheet_keeps_colour(run, tmp_path):
    contact_sheet(run.real, run.baseline, run.generated, tmp_path / "grey.png")
    assert Image.open(tmp_path / "grey.png").mode == "L"
    write_png(run.baseline / "gen_000.png", np.broadcast_to(np.uint8([200, 0, 0]), (64, 64, 3)).copy())
    contact_sheet(run.real, run.baseline, run.generated, tmp_path / "colour.png")
    sheet = np.asarray(Image.open(tmp_path / "colour.png"))
    assert sheet.ndim == 3 and (sheet == [200, 0, 0]).all(2).any()
