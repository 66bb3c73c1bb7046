"""Several processes: the weights of one, their lines in the log, and their errors."""

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
from vdm_pipeline_tests.stages.training.jobs import log_rows, make_job, silent, trained
from vdm_pipeline_tests.stages.training.weights import initial_adapter, max_difference


def relative_distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Norm of the difference of two adapters, relative to the norm of the first."""
    first, second = (torch.cat([weights[name].flatten() for name in sorted(one)]) for weights in (one, other))
    return float(torch.linalg.norm(first - second) / torch.linalg.norm(first))


@pytest.mark.slow
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
    assert relative_distance(one, two) < 1e-5
    moved = max_difference(one, initial_adapter(tiny.training))
    assert max_difference(one, two) < 1e-2 * moved, "most of an adapter is still at its start"
    assert sum(line.startswith("step 6/6: loss") for line in lines) == 1
    losses = [
        [float(row["loss"]) for row in log_rows(tmp_path / name / "out/training_log.csv")]
        for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_error_of_a_worker_is_raised(tiny, tmp_path):
    job = make_job(tiny, tmp_path, training={"target_modules": ("nowhere",)}, execution={"num_processes": 2})
    with pytest.raises(PipelineError, match=r"^training\.target_modules: "):
        run_training(job, silent)


@pytest.mark.slow
def test_worker_that_dies_is_an_error_with_its_last_lines(tiny, tmp_path):
    job = make_job(tiny, tmp_path, execution={"num_processes": 2})
    job = job.model_copy(update={"base": tmp_path / "nowhere"})
    job.state.mkdir(parents=True)
    with pytest.raises(PipelineError, match=r"nowhere"):
        run_training(job, silent)


def test_fewer_processes_than_configured_are_an_error(tiny, tmp_path):
    with pytest.raises(PipelineError, match=r"^execution\.num_processes is 2, but 1 were started"):
        train(make_job(tiny, tmp_path, execution={"num_processes": 2}), print)


SCRIPT = """
import sys
from vdm_pipeline.stages.training.launch import *
job = Job.model_validate_json(open(sys.argv[1]).read())
run_training(job, lambda line: print(line, flush=True))
"""


def start_training(job: Job, file: Path, until: str) -> subprocess.Popen:
    """Start a training in processes of its own, and wait until a log line contains ``until``."""
    file.write_text(job.model_dump_json())
    command = [sys.executable, "-c", SCRIPT, str(file)]
    launcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert launcher.stdout and any(until in line for line in launcher.stdout)
    return launcher


@pytest.mark.slow
def test_two_killed_processes_resume_to_the_weights_of_one(tiny, tmp_path):
    training = {"batch_size": 5, "max_train_steps": 12}
    one = load_file(trained(tiny, tmp_path / "one", training=training))
    (tmp_path / "two").mkdir()
    job = make_job(
        tiny,
        tmp_path / "two",
        training=training,
        execution={"num_processes": 2, "micro_batch_size": 2, "log_every": 1},
    )
    launcher = start_training(job, tmp_path / "job.json", until="step 4/12:")
    children = psutil.Process(launcher.pid).children(recursive=True)
    for process in (launcher, *children):
        process.kill()
    launcher.communicate()
    psutil.wait_procs(children, timeout=60)
    lines: list[str] = []
    run_training(job, lines.append)
    resumed = [line for line in lines if line.startswith("resuming from step ")]
    step, max_train_steps = resumed[0].split()[-1].split("/")
    assert 2 <= int(step) < int(max_train_steps) == 12
    assert relative_distance(one, load_file(job.out / LORA_WEIGHTS)) < 1e-5


@pytest.mark.slow
def test_no_worker_outlives_a_killed_launcher(tiny, tmp_path):
    execution = {"num_processes": 2, "log_every": 10**6, "checkpoint_every": 10**6}
    job = make_job(tiny, tmp_path, training={"max_train_steps": 10**6}, execution=execution)
    launcher = start_training(job, tmp_path / "job.json", until="GFLOP")
    children = psutil.Process(launcher.pid).children(recursive=True)
    assert len(children) >= 3, "accelerate and its two workers"
    launcher.kill()
    launcher.communicate()
    assert psutil.wait_procs(children, timeout=60)[1] == []


def test_missing_tracker_is_an_error(tiny, tmp_path, monkeypatch):
    from vdm_pipeline.stages.training import loop

    monkeypatch.setattr(loop.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        PipelineError, match=r"execution\.tracker is 'tensorboard'.* -c constraints\.txt tensorboard$"
    ):
        run_training(make_job(tiny, tmp_path, execution={"tracker": "tensorboard"}), silent)
