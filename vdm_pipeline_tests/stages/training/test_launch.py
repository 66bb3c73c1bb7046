"""Several processes: the weights of one, their lines in our log, and their faults as sentences."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.stages.training.job import Job
from vdm_pipeline.stages.training.launch import run_training
from vdm_pipeline.stages.training.loop import train
from vdm_pipeline_tests.stages.training.jobs import make_job, trained
from vdm_pipeline_tests.stages.training.test_learner import distance, start


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Norm of the difference of two adapters, a share of the first one's norm."""
    whole, second = (torch.cat([weights[name].flatten() for name in sorted(one)]) for weights in (one, other))
    return float(torch.linalg.norm(whole - second) / torch.linalg.norm(whole))


def test_two_processes_give_the_weights_of_one(tiny, tmp_path):
    one = load_file(trained(tiny, tmp_path / "one", training={"batch_size": 5}))
    (tmp_path / "two").mkdir()
    job = make_job(
        tiny,
        tmp_path / "two",
        training={"batch_size": 5},
        execution={"num_processes": 2, "micro_batch_size": 2},
    )
    lines: list[str] = []
    run_training(job, lines.append)
    two = load_file(job.out / LORA_WEIGHTS)
    assert apart(one, two) < 1e-5
    assert distance(one, two) < 1e-2 * distance(one, start(tiny.training)), (
        "and most of an adapter is where it started"
    )
    assert sum(line.startswith("step 6/6: loss") for line in lines) == 1
    logs = [(tmp_path / name / "out/training_log.csv").read_text().splitlines() for name in ("one", "two")]
    losses = [[float(row.split(",")[1]) for row in rows[1:]] for rows in logs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_workers_fault_is_its_sentence(tiny, tmp_path):
    job = make_job(tiny, tmp_path, training={"target_modules": ("nowhere",)}, execution={"num_processes": 2})
    with pytest.raises(PipelineError, match=r"^training\.target_modules: "):
        run_training(job, lambda line: None)


def test_a_worker_that_dies_is_told_with_its_last_lines(tiny, tmp_path):
    job = make_job(tiny, tmp_path, execution={"num_processes": 2}).model_copy(
        update={"base": tmp_path / "nowhere"}
    )
    (job.state).mkdir(parents=True)
    with pytest.raises(PipelineError, match=r"nowhere"):
        run_training(job, lambda line: None)


def test_fewer_processes_than_asked_for_are_a_sentence(tiny, tmp_path):
    with pytest.raises(PipelineError, match=r"^execution\.processes is 2, but 1 were started"):
        train(make_job(tiny, tmp_path, execution={"num_processes": 2}), print)


def launched(job: Job, file: Path, until: str) -> subprocess.Popen:
    """A training in processes of its own, whose log has come to such a line."""
    file.write_text(job.model_dump_json())
    script = "import sys; from vdm_pipeline.stages.training.launch import *; "
    script += "run_training(Job.model_validate_json(open(sys.argv[1]).read()), lambda line: print(line, flush=True))"
    launcher = subprocess.Popen([sys.executable, "-c", script, str(file)], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout and any(until in line for line in launcher.stdout)
    return launcher


def test_two_killed_processes_go_on_to_the_weights_of_one(tiny, tmp_path):
    training = {"batch_size": 5, "max_train_steps": 12}
    one = load_file(trained(tiny, tmp_path / "one", training=training))
    (tmp_path / "two").mkdir()
    job = make_job(
        tiny,
        tmp_path / "two",
        training=training,
        execution={"num_processes": 2, "micro_batch_size": 2, "log_every": 1},
    )
    launcher = launched(job, tmp_path / "job.json", "step 4/12:")
    family = psutil.Process(launcher.pid).children(recursive=True)
    for process in (launcher, *family):
        process.kill()
    launcher.communicate()
    psutil.wait_procs(family, timeout=60)
    lines: list[str] = []
    run_training(job, lines.append)
    begun = next(int(line.split()[4]) for line in lines if line.startswith("going on from step "))
    assert 2 <= begun < 12
    assert apart(one, load_file(job.out / LORA_WEIGHTS)) < 1e-5


def test_no_worker_outlives_a_killed_launcher(tiny, tmp_path):
    silent = {"num_processes": 2, "log_every": 10**6, "checkpoint_every": 10**6}
    job = make_job(tiny, tmp_path, training={"max_train_steps": 10**6}, execution=silent)
    launcher = launched(job, tmp_path / "job.json", "GFLOP")
    family = psutil.Process(launcher.pid).children(recursive=True)
    assert len(family) >= 3, "accelerate and its two workers"
    launcher.kill()
    launcher.communicate()
    assert psutil.wait_procs(family, timeout=60)[1] == []


def test_a_tracker_that_is_not_installed_is_a_sentence(tiny, tmp_path, monkeypatch):
    from vdm_pipeline.stages.training import loop

    monkeypatch.setattr(loop.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        PipelineError,
        match=r"execution\.tracker is 'tensorboard', which is not installed; pip install tensorboard",
    ):
        run_training(make_job(tiny, tmp_path, execution={"tracker": "tensorboard"}), lambda line: None)
