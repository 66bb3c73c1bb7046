"""Non-finite gradients: their steps change nothing, and too many of them end the training."""

import pytest
import torch
from safetensors.torch import load_file

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.stages.training.objective import Objective
from vdm_pipeline_tests.stages.training.jobs import log_rows, trained


@pytest.fixture
def break_steps(monkeypatch):
    """Make the losses of some steps NaN; steps count from 1."""
    losses, calls, broken_steps = Objective.losses, [], set()

    def broken(self, unet, data, randomness):
        calls.append(len(randomness.rows))
        values = losses(self, unet, data, randomness)
        step = calls.count(4)  # a step has four images, the FLOP count one
        return values * float("nan") if step in broken_steps else values

    def install(steps: range) -> None:
        broken_steps.update(steps)
        monkeypatch.setattr(Objective, "losses", broken)

    return install


def test_step_with_non_finite_gradients_changes_nothing_and_training_continues(tiny, tmp_path, break_steps):
    break_steps(range(3, 4))
    lines: list[str] = []
    checkpoints: list[dict[str, torch.Tensor]] = []

    def log(line: str) -> None:
        lines.append(line)
        if line.startswith("step"):
            newest = max((tmp_path / "run/state").glob("step_*"), default=None)
            checkpoints.append(load_file(newest) if newest else {})

    quick = {"log_every": 1, "checkpoint_every": 1, "validate_every": 1000}
    path = trained(tiny, tmp_path / "run", log=log, execution=quick)
    # the checkpoint of a step is written after its log line
    after_two, after_three, after_four = checkpoints[2:5]
    names = [
        name
        for name in after_two
        if name.startswith(("weight/", "optimizer/")) and "skipped" not in name and "bad" not in name
    ]
    assert len(names) > 10
    assert all(torch.equal(after_two[name], after_three[name]) for name in names)
    assert not torch.equal(after_four[names[0]], after_three[names[0]])
    assert all(torch.isfinite(value).all() for value in load_file(path).values())
    assert "1 steps skipped so far" in lines[-1]


def test_too_many_non_finite_steps_end_the_training_and_keep_the_last_good_checkpoint(
    tiny, tmp_path, break_steps
):
    break_steps(range(4, 100))
    with pytest.raises(PipelineError, match=r"3 steps in a row up to step 6 .* training\.learning_rate"):
        trained(tiny, tmp_path / "run", training={"max_nonfinite_steps": 2})
    assert not list((tmp_path / "run/out").glob("*.safetensors"))
    checkpoints = sorted((tmp_path / "run/state").glob("step_*"))
    assert [int(path.name[5:13]) for path in checkpoints] == [2, 4]
    for path in checkpoints:
        assert all(torch.isfinite(value).all() for value in load_file(path).values())


def test_non_finite_steps_end_the_training_however_rare_log_lines_are(tiny, tmp_path, break_steps):
    """Three such steps in a row, and good ones after them, between two rows of the log."""
    break_steps(range(2, 5))
    rare = {"log_every": 1000, "checkpoint_every": 1000}
    with pytest.raises(PipelineError, match=r"3 steps in a row up to step 6"):
        trained(tiny, tmp_path / "run", training={"max_nonfinite_steps": 2}, execution=rare)


def test_training_without_one_good_step_is_an_error(tiny, tmp_path, monkeypatch):
    losses = Objective.losses
    monkeypatch.setattr(Objective, "losses", lambda *args: losses(*args) * float("nan"))
    with pytest.raises(PipelineError, match=r"4 steps in a row up to step 4"):
        trained(tiny, tmp_path / "run", training={"max_train_steps": 4, "max_nonfinite_steps": 50})
    rows = log_rows(tmp_path / "run/state/training_log.csv")
    assert [row["loss"] for row in rows] == [""], "no loss instead of 0"
