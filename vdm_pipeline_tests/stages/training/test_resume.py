"""An interrupted training ends in the same bytes as an uninterrupted one."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.io.progress import Log
from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.training import outputs
from vdm_pipeline.stages.training.checkpoints import Checkpoints
from vdm_pipeline_tests.stages.training.jobs import log_rows, make_job, trained

CONSTANT = {"lr_scheduler": "constant"}


class Killed(BaseException):
    """Not an error that anything would handle."""


def kill_at(step: int) -> Log:
    """A log that dies at the line of ``step``."""

    def log(line: str) -> None:
        if line.startswith(f"step {step}/"):
            raise Killed

    return log


def logged_steps(root: Path) -> list[str]:
    return [row["step"] for row in log_rows(root / "out/training_log.csv")]


@pytest.mark.parametrize("step", [3, 5])
def test_interrupted_run_equals_uninterrupted(tiny, tmp_path, whole, step):
    with pytest.raises(Killed):
        trained(tiny, tmp_path / "cut", log=kill_at(step), execution={"log_every": 1})
    lines: list[str] = []
    resumed = trained(tiny, tmp_path / "cut", log=lines.append)
    assert f"resuming from step {step - 1}/6" in lines
    assert resumed.read_bytes() == whole.read_bytes()


def test_log_has_no_step_twice_after_resume(tiny, tmp_path):
    every = {"log_every": 1, "checkpoint_every": 2}
    with pytest.raises(Killed):
        trained(tiny, tmp_path / "run", log=kill_at(5), execution=every)
    trained(tiny, tmp_path / "run", execution=every)
    assert logged_steps(tmp_path / "run") == ["1", "2", "3", "4", "5", "6"]


def test_ema_and_optimizer_resume_too(tiny, tmp_path):
    changes = {"ema_decay": 0.7, "snr_gamma": 5.0, "noise_offset": 0.1, "random_flip": True}
    whole = trained(tiny, tmp_path / "whole", training=changes)
    with pytest.raises(Killed):
        trained(tiny, tmp_path / "cut", log=kill_at(5), training=changes, execution={"log_every": 1})
    assert trained(tiny, tmp_path / "cut", training=changes).read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("damage", ["deleted", "cut"])
def test_deleted_or_damaged_last_checkpoint_costs_only_steps(tiny, tmp_path, whole, damage):
    with pytest.raises(Killed):
        trained(tiny, tmp_path / "run", log=kill_at(5), execution={"log_every": 1})
    newest = Checkpoints(tmp_path / "run/state", print).newest(6)
    if damage == "deleted":
        newest.unlink()
    else:
        newest.write_bytes(newest.read_bytes()[:1000])
    lines: list[str] = []
    assert trained(tiny, tmp_path / "run", log=lines.append).read_bytes() == whole.read_bytes()
    assert "resuming from step 2/6" in lines


def test_more_steps_resume_if_the_learning_rate_is_constant(tiny, tmp_path):
    longer = CONSTANT | {"max_train_steps": 9}
    whole = trained(tiny, tmp_path / "whole", training=longer)
    trained(tiny, tmp_path / "more", training=CONSTANT)
    lines: list[str] = []
    more = trained(tiny, tmp_path / "more", log=lines.append, training=longer)
    assert "resuming from step 6/9" in lines
    weights, expected = load_file(more), load_file(whole)
    assert {name: value.tolist() for name, value in weights.items()} == {
        name: value.tolist() for name, value in expected.items()
    }


def test_fewer_steps_do_not_use_a_checkpoint_past_their_end(tiny, tmp_path):
    shorter = CONSTANT | {"max_train_steps": 4}
    trained(tiny, tmp_path / "run", training=CONSTANT)
    fewer = trained(tiny, tmp_path / "run", training=shorter)
    assert fewer.read_bytes() == trained(tiny, tmp_path / "alone", training=shorter).read_bytes()


def test_fewer_steps_keep_their_own_checkpoints(tiny, tmp_path):
    """The checkpoints of a longer training are past their end and must not displace theirs."""
    shorter, often = CONSTANT | {"max_train_steps": 7}, {"checkpoint_every": 1}
    trained(tiny, tmp_path / "run", training=CONSTANT | {"max_train_steps": 9}, execution=often)
    with pytest.raises(Killed):
        trained(tiny, tmp_path / "run", log=kill_at(6), training=shorter, execution=often)
    lines: list[str] = []
    fewer = trained(tiny, tmp_path / "run", log=lines.append, training=shorter)
    assert "resuming from step 5/7" in lines
    assert fewer.read_bytes() == trained(tiny, tmp_path / "alone", training=shorter).read_bytes()
    assert [path.name for path in (tmp_path / "run/out/samples").iterdir()] == ["step_000007.png"]


def test_sheet_that_a_kill_prevented_is_drawn_after_resume(tiny, tmp_path, monkeypatch):
    every, sample_sheet = {"sample_every": 2}, outputs.sample_sheet

    def die_once(*args):
        monkeypatch.setattr(outputs, "sample_sheet", sample_sheet)
        raise Killed

    monkeypatch.setattr(outputs, "sample_sheet", die_once)
    with pytest.raises(Killed):
        trained(tiny, tmp_path / "run", execution=every)
    trained(tiny, tmp_path / "run", execution=every)
    assert sorted(path.name for path in (tmp_path / "run/out/samples").iterdir()) == [
        f"step_00000{n}.png" for n in (2, 4, 6)
    ]


def test_lost_log_of_a_finished_training_gets_its_last_row(tiny, tmp_path, whole):
    shutil.copytree(whole.parents[1], tmp_path / "run")
    (tmp_path / "run/state/training_log.csv").unlink()
    assert trained(tiny, tmp_path / "run").read_bytes() == whole.read_bytes()
    assert logged_steps(tmp_path / "run") == ["6"]


@pytest.mark.slow
def test_killed_processes_end_in_the_same_bytes(tiny, tmp_path):
    """A process of its own, killed at random moments. The benchmark ``kills`` does it 200 times."""
    whole = trained(
        tiny, tmp_path / "whole", training={"max_train_steps": 40}, execution={"checkpoint_every": 1}
    )
    job_file = write_job(tiny, tmp_path / "run")
    rng = random.Random(7)
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = start_worker(job_file)
        wait_for_a_checkpoint(tmp_path / "run/state", process)
        time.sleep(rng.uniform(0, 1))
        os.kill(process.pid, number)
        process.wait(timeout=60)
    assert start_worker(job_file).wait(timeout=300) == 0
    assert (tmp_path / "run/out" / LORA_WEIGHTS).read_bytes() == whole.read_bytes()


def write_job(profile: Profile, root: Path) -> Path:
    root.mkdir()
    job = make_job(profile, root, training={"max_train_steps": 40}, execution={"checkpoint_every": 1})
    write_text(root / "job.json", job.model_dump_json())
    return root / "job.json"


def start_worker(job_file: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "vdm_pipeline.stages.training.worker", str(job_file)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_a_checkpoint(state: Path, process: subprocess.Popen) -> None:
    existing = set(state.glob("step_*"))
    while process.poll() is None and set(state.glob("step_*")) <= existing:
        time.sleep(0.02)
