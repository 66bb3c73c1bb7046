"""The graph as Dagster runs it: its files, what is computed and skipped, and what a failure leaves behind."""

import json
import re
import shutil
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vdm_pipeline.defs.build import build_definitions
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.graph import STAGES, how_to_materialize
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline_tests.defs.assets.graph import computed, error_message, materialize, persistent_instance
from vdm_pipeline_tests.defs.checks.test_check_factory import BLOCKING, NOT_BLOCKING
from vdm_pipeline_tests.profiles import shrink

ALL = list(STAGES)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, Path]:
    """The whole graph, once. Its captions contain markup."""
    classes = {"template": "<img src=x onerror=alert(1)> {phrase}"}
    profile, root = shrink(load_profile("demo"), classes=classes), tmp_path_factory.mktemp("project")
    (root / "data").mkdir()
    result = materialize(profile, root)
    assert result.success, error_message(result)
    assert computed(result) == set(ALL)
    return profile, root


def test_contract_of_files(finished):
    profile, root = finished
    table = pd.read_csv(root / "results/labeled_dataset.csv")
    assert len(table) == 128
    assert list(table.columns[:6]) == [
        "image_id",
        "auto_label",
        "ground_truth",
        "ground_truth_label",
        "confidence_score",
        "split",
    ]
    metrics = json.loads((root / "results/metrics/auto_label_metrics.json").read_text())
    assert set(metrics) == {"train", "val", "test", "overall"}
    keys = {
        "n",
        "accuracy",
        "balanced_accuracy",
        "f1",
        "roc_auc",
        "ece",
        "brier",
        "confusion_matrix",
        "roc_auc_ci95",
        "uncalibrated",
    }
    assert keys <= set(metrics["test"])
    rows = [json.loads(line) for line in (root / "data/subset/metadata.jsonl").read_text().splitlines()]
    assert list(rows[0]) == ["file_name", "text", "image_id", "label", "ground_truth", "confidence_score"]
    assert {row["text"] for row in rows} == {profile.classes.caption(0), profile.classes.caption(1)}
    assert (root / "results/lora/loss.png").exists()
    assert (root / "results/report/index.html").stat().st_size > 10_000
    for arm in ("generated_images", "generated_images_no_fine_tuning"):
        assert len(list((root / "results" / arm).glob("gen_*.png"))) == 6


def test_arms_differ_in_the_adapter_alone(finished):
    _, root = finished
    arms = ["generated_images", "generated_images_no_fine_tuning"]
    lora, baseline = (
        [json.loads(line) for line in (root / "results" / arm / "metadata.jsonl").read_text().splitlines()]
        for arm in arms
    )
    for a, b in zip(lora, baseline, strict=True):
        assert {k for k in a if a[k] != b[k]} - {"chroma", "pixels_sha256"} == {"adapters", "lora_sha256"}
    assert lora[0]["lora_sha256"] == file_sha256(root / "results/lora/pytorch_lora_weights.safetensors")
    pictures = [np.asarray(Image.open(root / "results" / arm / "gen_000.png"), int) for arm in arms]
    assert np.abs(pictures[0] - pictures[1]).max() > 0


def test_summary_has_the_prototypes_keys_and_the_missing_ones(finished):
    _, root = finished
    summary = json.loads((root / "results/pipeline_summary.json").read_text())
    old = [
        "labeled_csv",
        "metrics_json",
        "lora_subset_dir",
        "lora_out_dir",
        "lora_weights",
        "generated_dir",
        "num_generated",
    ]
    new = [
        "profile",
        "settings",
        "models",
        "data",
        "seeds",
        "versions",
        "device",
        "durations_s",
        "peak_memory_mb",
        "metrics",
    ]
    assert list(summary) == old + new
    assert summary["num_generated"] == 6
    for key in old[:-1]:
        assert (root / summary[key]).exists()
    for model in summary["models"].values():
        assert {"id", "revision", "sha256", "weights", "licence"} == set(model)


def test_page_is_self_contained_and_escaped(finished):
    _, root = finished
    page = (root / "results/report/index.html").read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "Rendered phantoms" in page
    assert page.count('alt="baseline, seed') == page.count('alt="LoRA, seed') == 6


def test_markup_in_a_caption_stays_text(finished):
    _, root = finished
    page = (root / "results/report/index.html").read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_skipped_assets_are_reported_once(finished, tmp_path):
    profile, root = finished
    job = build_definitions(profile, Store(root)).resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(name) for name in ("raw_npz", "image_embeddings")]
    with persistent_instance(tmp_path / "home") as instance:
        for _ in range(2):  # the second run of a process starts a new list
            result = job.execute_in_process(asset_selection=keys, instance=instance)
            messages = [entry.user_message for entry in instance.all_logs(result.run_id)]
            skipped = [message for message in messages if message.startswith("Skipped")]
            assert skipped == ["Skipped (up to date): raw_npz, image_embeddings"]


def test_second_run_computes_nothing(finished):
    profile, root = finished
    before = {path: path.stat().st_mtime_ns for path in (root / "results").rglob("*.png")}
    assert computed(materialize(profile, root)) == set()
    assert {path: path.stat().st_mtime_ns for path in (root / "results").rglob("*.png")} == before


def test_new_phrases_relabel_without_an_image_pass(tiny, embedded):
    labelled = ["raw_npz", "image_embeddings", "labeled_dataset"]
    assert materialize(tiny, embedded, labelled).success
    diff = embedded / "results/metrics/relabel_diff.csv"
    assert pd.read_csv(diff).empty
    before = pd.read_csv(embedded / "results/labeled_dataset.csv")
    swapped = shrink(
        tiny,
        labelling={
            "phrases": (("pneumonia",), ("healthy lungs",)),
            "calibration": "none",
            "decision": "argmax",
        },
    )
    result = materialize(swapped, embedded, labelled)
    assert computed(result) == {"labeled_dataset"}
    after, rows = pd.read_csv(embedded / "results/labeled_dataset.csv"), pd.read_csv(diff)
    assert len(rows) == (before["auto_label"] != after["auto_label"]).sum() > 100
    facts = {
        key: value.value
        for event in result.get_asset_materialization_events()
        for key, value in event.materialization.metadata.items()
    }
    assert facts["labels_changed"] == len(rows)
    assert facts["test_balanced_accuracy_after"] < 0.2 < 0.8 < facts["test_balanced_accuracy_before"]


def test_execution_settings_recompute_nothing(finished):
    profile, root = finished
    changed = profile.model_copy(
        update={
            "execution": profile.execution.model_copy(update={"generation_batch_size": 3, "log_every": 1})
        }
    )
    assert computed(materialize(changed, root)) == set()


def test_an_edited_file_recomputes_its_asset_and_nothing_downstream(finished):
    profile, root = finished
    path = root / "results/labeled_dataset.csv"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"normal", b"pneumonia", 1))
    assert computed(materialize(profile, root)) == {"labeled_dataset"}
    assert path.read_bytes() == good


@pytest.mark.parametrize("named", ["label_metrics", "all", "report, label_metrics"])
def test_force_recomputes(finished, monkeypatch, named):
    profile, root = finished
    monkeypatch.setenv("VDM_FORCE", named)
    assert computed(materialize(profile, root, ["label_metrics"])) == {"label_metrics"}


def test_force_of_an_unknown_asset_is_an_error(finished, monkeypatch):
    profile, root = finished
    monkeypatch.setenv("VDM_FORCE", "lora_weight")
    with pytest.raises(PipelineError, match="VDM_FORCE names lora_weight,"):
        materialize(profile, root, ["label_metrics"])


def test_an_edited_upstream_file_is_not_read(finished):
    profile, root = finished
    path = root / "results/labeled_dataset.csv"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"normal", b"pneumonia", 1))
    result = materialize(profile, root, ["label_metrics"])
    path.write_bytes(good)
    assert error_message(result).startswith("Files of asset labeled_dataset changed")
    assert error_message(result).endswith(how_to_materialize("labeled_dataset"))


def test_an_asset_of_other_settings_is_not_read(finished):
    profile, root = finished
    other = shrink(profile, training={"rank": 4})
    for selected, stale in (("generated_images", "lora_weights"), ("image_metrics", "generated_images")):
        assert f"Asset {stale} is stale" in error_message(materialize(other, root, [selected]))


def test_staleness_is_seen_through_several_stages(finished):
    profile, root = finished
    for section, values, selected in (
        ("training", {"max_train_steps": 7}, "image_metrics"),
        ("data", {"seed": 9}, "label_metrics"),
    ):
        result = materialize(shrink(profile, **{section: values}), root, [selected])
        assert "is stale" in error_message(result)


def test_generated_images_need_no_baseline(finished, tmp_path):
    profile, root = finished[0], shutil.copytree(finished[1], tmp_path / "project")
    (root / "results/.manifests/baseline_images.json").unlink()
    for folder in ("generated_images", "generated_images_no_fine_tuning"):
        shutil.rmtree(root / "results" / folder)
    result = materialize(profile, root, ["generated_images"])
    assert result.success, error_message(result)
    assert computed(result) == {"generated_images"}


def test_an_asset_of_other_inputs_is_not_read(finished):
    profile, root = finished
    record = root / "results/.manifests/lora_weights.json"
    good = record.read_text()
    subset = json.loads(good)["inputs"]["lora_subset.training_set"]
    record.write_text(good.replace(subset, "0" * 16))
    result = materialize(profile, root, ["generated_images"])
    record.write_text(good)
    assert error_message(result).startswith("Asset lora_weights is stale")


def test_leftovers_of_killed_writers_are_not_published(tiny, embedded):
    assert materialize(
        tiny, embedded, ["raw_npz", "image_embeddings", "labeled_dataset", "label_metrics"]
    ).success

    assert not (embedded / "results/.staging/label_metrics").exists()
    staging = Store(embedded).staging("baseline_images", ["results/x"], "0" * 16)
    left = [
        staging / "generated_images_no_fine_tuning/.gen_003.png.0123abcd.part.png",
        embedded / "results/.generated_images_no_fine_tuning.0123abcd.old/gen_000.png",
        embedded / "data/.phantom_64.npz.0123abcd.part.npz",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert Store(embedded).staging("baseline_images", ["results/x"], "0" * 16) == staging
    assert not left[0].exists()
    (embedded / "data" / tiny.data.file_name).unlink()
    assert materialize(tiny, embedded, ["raw_npz", "baseline_images"]).success
    assert not any(path.exists() for path in left)


def test_a_missing_input_is_an_error_with_the_command(tiny, project):
    result = materialize(tiny, project, ["generated_images"])
    assert not result.success
    assert error_message(result).startswith("Asset lora_weights is not materialized")
    assert error_message(result).endswith(how_to_materialize("lora_weights"))
    assert not list((project / "results").glob("generated*"))


def test_a_bad_archive_fails_first_and_nothing_is_computed_from_it(tiny, project):
    data = tiny.data.model_copy(update={"dataset": "pneumoniamnist", "source": "file", "size": 28})
    archive = project / "data/pneumoniamnist.npz"
    archive.write_bytes(b"PK\x03\x04 and no more")
    result = materialize(tiny.model_copy(update={"data": data}), project)
    assert not result.success
    assert error_message(result).startswith(f"{archive}: ")
    assert list((project / "data").iterdir()) == [archive]
    steps = [event.step_key for event in result.all_events if event.is_step_start]
    assert steps[0] == "raw_npz"
    assert all(step.startswith("baseline_images") for step in steps[1:])


def test_checks_run_and_pass(finished):
    profile, root = finished
    evaluations = materialize(profile, root).get_asset_check_evaluations()
    assert {
        (evaluation.asset_key.to_user_string(), evaluation.check_name) for evaluation in evaluations
    } == BLOCKING | NOT_BLOCKING
    assert all(
        evaluation.passed for evaluation in evaluations if evaluation.severity != dg.AssetCheckSeverity.WARN
    )
