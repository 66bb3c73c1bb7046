"""`lora_weights` in the graph: it resumes after a crash, and never from a training with other settings."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.training.training_log import TrainingLog
from vdm_pipeline_tests.defs.assets.graph import computed, error_message, materialize
from vdm_pipeline_tests.profiles import shrink

UPSTREAM = ["raw_npz", "image_embeddings", "labeled_dataset", "data_faults", "label_noise", "lora_subset"]
WEIGHTS = "results/lora/pytorch_lora_weights.safetensors"


@pytest.fixture
def upstream(tiny, embedded) -> tuple[Profile, Path]:
    """A project up to the subset."""
    result = materialize(tiny, embedded, UPSTREAM)
    assert result.success, error_message(result)
    return tiny, embedded


def crash_once(monkeypatch, at: int) -> None:
    """Fail when the row of step ``at`` is written, and clean up nothing."""
    add = TrainingLog.add

    def crash(training_log, step, values):
        if step == at:
            monkeypatch.setattr(TrainingLog, "add", add)
            raise RuntimeError("the machine is gone")
        add(training_log, step, values)

    monkeypatch.setattr(TrainingLog, "add", crash)


def resume_lines(printed) -> list[str]:
    return [
        line.rsplit("lora_weights - ", 1)[1]
        for line in printed.readouterr().err.splitlines()
        if "resuming from step" in line
    ]


def test_a_crashed_training_resumes_and_gives_the_same_adapter(upstream, monkeypatch, printed, tmp_path):
    profile, project = upstream
    assert materialize(profile, project, ["lora_weights"]).success
    uninterrupted = (project / WEIGHTS).read_bytes()
    monkeypatch.setenv("VDM_FORCE", "lora_weights")
    crash_once(monkeypatch, at=6)
    printed.readouterr()
    assert not materialize(profile, project, ["lora_weights"]).success
    assert resume_lines(printed) == [], "forced, it trains from the start"
    assert (project / WEIGHTS).read_bytes() == uninterrupted
    printed.readouterr()
    result = materialize(profile, project, ["lora_weights"])
    assert result.success
    assert resume_lines(printed) == ["resuming from step 4/6"]
    assert (project / WEIGHTS).read_bytes() == uninterrupted


def test_other_settings_train_from_the_start_and_more_steps_resume(upstream, printed):
    profile, project = upstream
    constant = shrink(profile, training={"lr_scheduler": "constant"})
    assert materialize(constant, project, ["lora_weights"]).success
    (project / "results/.training/.DS_Store").touch()
    for changed, expected in (
        ({"lr_scheduler": "constant", "max_train_steps": 8}, ["resuming from step 6/8"]),
        ({"lr_scheduler": "constant", "max_train_steps": 8, "learning_rate": 1e-5}, []),
    ):
        printed.readouterr()
        result = materialize(shrink(profile, training=changed), project, ["lora_weights"])
        assert computed(result) == {"lora_weights"}
        assert resume_lines(printed) == expected
    assert len([path for path in (project / "results/.training").iterdir() if path.is_dir()]) == 1


def test_the_adapter_has_its_provenance_in_the_header(upstream):
    profile, project = upstream
    result = materialize(profile, project, ["lora_weights"])
    with safe_open(project / WEIGHTS, "pt") as file:
        header = file.metadata()
    assert header["base_model"].startswith("embedded:sd@")
    assert '"learning_rate":' in header["settings"]
    versions = json.loads((project / "results/.manifests/lora_subset.json").read_text())["versions"]
    assert header["data_version"] == versions["training_set"]
    metadata = next(
        iter(result.get_asset_materialization_events())
    ).step_materialization_data.materialization.metadata
    assert metadata["preview"].value.count("data:image/webp;base64,") == 2
    assert metadata["step"].value == 6 and metadata["validation_loss"].value > 0
