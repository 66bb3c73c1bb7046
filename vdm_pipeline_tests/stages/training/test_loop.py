"""The training loop's files: which rows, sheets and checkpoints a training leaves."""

import itertools
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.stages.training import session
from vdm_pipeline.stages.training.job import resume_key
from vdm_pipeline.stages.training.loop import train
from vdm_pipeline_tests.stages.training.jobs import log_rows, make_job, trained


def test_output_files(whole):
    assert {path.name for path in whole.parent.iterdir()} == {whole.name, "training_log.csv", "samples"}
    assert [path.name for path in (whole.parent / "samples").iterdir()] == ["step_000006.png"]


def test_columns_of_the_log(whole):
    header = (whole.parent / "training_log.csv").read_text().splitlines()[0]
    assert header == "step,loss,validation_loss,lr,grad_norm,images_per_s,mfu,peak_memory_mb"


def test_validation_has_its_own_interval(tiny, tmp_path):
    trained(tiny, tmp_path / "run", execution={"log_every": 4, "checkpoint_every": 1000, "validate_every": 3})
    rows = log_rows(tmp_path / "run/out/training_log.csv")
    assert [row["step"] for row in rows] == ["3", "4", "6"]
    assert [bool(row["validation_loss"]) for row in rows] == [True, False, True]


def test_speed_and_mfu_are_measured_by_the_clock(tiny, tmp_path, monkeypatch):
    """A clock that ticks once per reading: the clock is read at the start and the end of two steps."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(session, "peak_flops", lambda device, dtype: 8e9)
    lines: list[str] = []
    trained(tiny, tmp_path / "run", log=lines.append, execution={"checkpoint_every": 1000})
    flops = next(float(line.split()[0]) for line in lines if "GFLOP" in line) * 1e9
    images_per_s = 2 * tiny.training.batch_size
    for row in log_rows(tmp_path / "run/out/training_log.csv")[:-1]:
        assert float(row["images_per_s"]) == images_per_s
        assert float(row["mfu"]) == pytest.approx(images_per_s * flops / 8e9, rel=0.02)


def test_only_trainings_with_the_same_steps_have_the_same_key(tiny):
    training = tiny.training
    constant = training.model_copy(update={"lr_scheduler": "constant"})

    def key(settings, data="d", base="b"):
        return resume_key(settings, data, base, 1)

    assert key(constant) == key(constant.model_copy(update={"max_train_steps": 99}))
    assert key(training) != key(training.model_copy(update={"max_train_steps": 99}))
    others = [
        constant.model_copy(update={name: value})
        for name, value in {"seed": 1, "rank": 2, "learning_rate": 1e-5, "batch_size": 3}.items()
    ]
    assert len({key(constant), key(constant, data="e"), key(constant, base="c"), *map(key, others)}) == 7


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 5 MB, if this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk_is_an_error_and_the_next_run_resumes(tiny, tmp_path, whole, small_disk):
    job = make_job(tiny, tmp_path).model_copy(update={"state": small_disk / "state"})

    def fill_after_step_three(line: str) -> None:
        if line.startswith("step 4/"):
            left = shutil.disk_usage(small_disk).free
            (small_disk / "ballast").write_bytes(b"\0" * (left - 100_000))

    with pytest.raises(PipelineError, match=r"checkpoint of step 4 .*free disk space"):
        train(job, fill_after_step_three)
    (small_disk / "ballast").unlink()
    lines: list[str] = []
    train(job, lines.append)
    assert "resuming from step 2/6" in lines
    assert (tmp_path / "out" / LORA_WEIGHTS).read_bytes() == whole.read_bytes()
