"""`lora_weights` in the graph: it goes on by itself after a crash, and never with what another training left."""

from pathlib import Path

import pytest
from safetensors import safe_open

from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.training.loop import Session
from vdm_pipeline_tests.conftest import shrink
from vdm_pipeline_tests.defs.assets.graph import computed, materialize, sentence

UPSTREAM = ["raw_npz", "image_embeddings", "labeled_dataset", "data_faults", "label_noise", "lora_subset"]
WEIGHTS = "results/lora/pytorch_lora_weights.safetensors"


@pytest.fixture
def upstream(tiny, project) -> tuple[Profile, Path]:
    """A project up to the subset."""
    result = materialize(tiny, project, UPSTREAM)
    assert result.success, sentence(result)
    return tiny, project


def crash_once(monkeypatch, at: int) -> None:
    """Die when the row of step ``at`` is written, as a machine does: nothing is cleaned up."""
    report = Session._report

    def dies(session, records, done, *given, **named):
        if done == at:
            monkeypatch.setattr(Session, "_report", report)
            raise RuntimeError("the machine is gone")
        return report(session, records, done, *given, **named)

    monkeypatch.setattr(Session, "_report", dies)


def going_on(capsys) -> list[str]:
    return [
        line.rsplit("lora_weights - ", 1)[1]
        for line in capsys.readouterr().err.splitlines()
        if "going on from step" in line
    ]


def test_a_crashed_training_goes_on_and_ends_in_the_same_adapter(upstream, monkeypatch, capsys, tmp_path):
    profile, project = upstream
    assert materialize(profile, project, ["lora_weights"]).success
    whole = (project / WEIGHTS).read_bytes()
    monkeypatch.setenv("VDM_FORCE", "lora_weights")
    crash_once(monkeypatch, at=6)
    capsys.readouterr()
    assert not materialize(profile, project, ["lora_weights"]).success
    assert going_on(capsys) == [], "forced, it trains anew"
    assert (project / WEIGHTS).read_bytes() == whole
    capsys.readouterr()
    result = materialize(profile, project, ["lora_weights"])
    assert result.success
    assert going_on(capsys) == ["going on from step 4 of 6"]
    assert (project / WEIGHTS).read_bytes() == whole


def test_other_settings_start_anew_and_more_steps_go_on(upstream, capsys):
    profile, project = upstream
    constant = shrink(profile, training={"lr_scheduler": "constant"})
    assert materialize(constant, project, ["lora_weights"]).success
    (project / "results/.training/.DS_Store").touch()
    for changed, expected in (
        ({"lr_scheduler": "constant", "max_train_steps": 8}, ["going on from step 6 of 8"]),
        ({"lr_scheduler": "constant", "max_train_steps": 8, "learning_rate": 1e-5}, []),
    ):
        capsys.readouterr()
        result = materialize(shrink(profile, training=changed), project, ["lora_weights"])
        assert computed(result) == {"lora_weights"}
        assert going_on(capsys) == expected
    assert len([path for path in (project / "results/.training").iterdir() if path.is_dir()]) == 1


def test_the_adapter_carries_what_it_was_made_from_and_the_run_shows_it(upstream):
    profile, project = upstream
    result = materialize(profile, project, ["lora_weights"])
    with safe_open(project / WEIGHTS, "pt") as file:
        header = file.metadata()
    assert header["base_model"].startswith("embedded:sd@")
    assert '"learning_rate":' in header["settings"] and len(header["data_version"]) == 16
    metadata = next(
        iter(result.get_asset_materialization_events())
    ).step_materialization_data.materialization.metadata
    assert metadata["preview"].value.count("data:image/png;base64,") == 2
    assert metadata["step"].value == 6 and metadata["validation_loss"].value > 0
