"""A training that is stopped, at any moment and in any way, ends in the bytes of one that is not."""

import csv
import itertools
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

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.training import loop
from vdm_pipeline.stages.training.checkpoints import Checkpoints
from vdm_pipeline.stages.training.job import resume_key
from vdm_pipeline.stages.training.loop import train
from vdm_pipeline_tests.stages.training.jobs import make_job, trained

COLUMNS = "step,loss,validation_loss,lr,grad_norm,images_per_s,share_of_peak,peak_memory_mb"


class Killed(BaseException):
    """Not an error that anything would handle."""


def kill_at(step: int):
    """A log that dies at the line of ``step``."""

    def log(line: str) -> None:
        if line.startswith(f"step {step}/"):
            raise Killed

    return log


def steps_logged(root: Path) -> list[str]:
    rows = (root / "out/training_log.csv").read_text().splitlines()
    assert rows[0] == COLUMNS
    return [row.split(",")[0] for row in rows[1:]]


@pytest.mark.parametrize("at", [3, 5])
def test_interrupted_run_equals_uninterrupted(tiny, tmp_path, at):
    whole = trained(tiny, tmp_path / "whole")
    with pytest.raises(Killed):
        trained(tiny, tmp_path / "cut", log=kill_at(at), execution={"log_every": 1})
    lines: list[str] = []
    resumed = trained(tiny, tmp_path / "cut", log=lines.append)
    assert f"going on from step {at - 1} of 6" in lines
    assert resumed.read_bytes() == whole.read_bytes()


def test_log_has_no_step_twice_after_resume(tiny, tmp_path):
    every = {"log_every": 1, "checkpoint_every": 2}
    with pytest.raises(Killed):
        trained(tiny, tmp_path / "run", log=kill_at(5), execution=every)
    trained(tiny, tmp_path / "run", execution=every)
    assert steps_logged(tmp_path / "run") == ["1", "2", "3", "4", "5", "6"]


def test_validation_keeps_its_own_time(tiny, tmp_path):
    trained(tiny, tmp_path / "run", execution={"log_every": 4, "checkpoint_every": 1000, "validate_every": 3})
    assert steps_logged(tmp_path / "run") == ["3", "4", "6"]
    rows = [row.split(",") for row in (tmp_path / "run/out/training_log.csv").read_text().splitlines()[1:]]
    assert [bool(row[2]) for row in rows] == [True, False, True]


def test_running_mean_and_optimizer_go_on_too(tiny, tmp_path):
    changes = {"ema_decay": 0.7, "snr_gamma": 5.0, "noise_offset": 0.1, "random_flip": True}
    whole = trained(tiny, tmp_path / "whole", training=changes)
    with pytest.raises(Killed):
        trained(tiny, tmp_path / "cut", log=kill_at(5), training=changes, execution={"log_every": 1})
    assert trained(tiny, tmp_path / "cut", training=changes).read_bytes() == whole.read_bytes()


def test_a_deleted_or_damaged_last_checkpoint_costs_steps_and_nothing_else(tiny, tmp_path):
    whole = trained(tiny, tmp_path / "whole")
    for damage in ("deleted", "cut"):
        with pytest.raises(Killed):
            trained(tiny, tmp_path / damage, log=kill_at(5), execution={"log_every": 1})
        newest = Checkpoints(tmp_path / damage / "state", print).newest(6)
        newest.unlink() if damage == "deleted" else newest.write_bytes(newest.read_bytes()[:1000])
        lines: list[str] = []
        assert trained(tiny, tmp_path / damage, log=lines.append).read_bytes() == whole.read_bytes()
        assert "going on from step 2 of 6" in lines


def test_more_steps_go_on_where_the_rate_does_not_know_the_end(tiny, tmp_path):
    constant = {"lr_scheduler": "constant"}
    whole = trained(tiny, tmp_path / "whole", training=constant | {"max_train_steps": 9})
    trained(tiny, tmp_path / "more", training=constant)
    lines: list[str] = []
    more = trained(tiny, tmp_path / "more", log=lines.append, training=constant | {"max_train_steps": 9})
    assert "going on from step 6 of 9" in lines
    assert {key: value.tolist() for key, value in load_file(more).items()} == {
        k: v.tolist() for k, v in load_file(whole).items()
    }


def test_fewer_steps_do_not_take_a_checkpoint_past_their_end(tiny, tmp_path):
    constant = {"lr_scheduler": "constant"}
    trained(tiny, tmp_path / "run", training=constant)
    fewer = trained(tiny, tmp_path / "run", training=constant | {"max_train_steps": 4})
    assert (
        fewer.read_bytes()
        == trained(tiny, tmp_path / "alone", training=constant | {"max_train_steps": 4}).read_bytes()
    )


def test_fewer_steps_keep_their_own_checkpoints(tiny, tmp_path):
    """What a longer training left lies past their end and must not push theirs out."""
    constant = {"lr_scheduler": "constant"}
    trained(
        tiny, tmp_path / "run", training=constant | {"max_train_steps": 9}, execution={"checkpoint_every": 1}
    )
    with pytest.raises(Killed):
        trained(
            tiny,
            tmp_path / "run",
            log=kill_at(6),
            training=constant | {"max_train_steps": 7},
            execution={"checkpoint_every": 1},
        )
    lines: list[str] = []
    fewer = trained(tiny, tmp_path / "run", log=lines.append, training=constant | {"max_train_steps": 7})
    assert "going on from step 5 of 7" in lines
    assert (
        fewer.read_bytes()
        == trained(tiny, tmp_path / "alone", training=constant | {"max_train_steps": 7}).read_bytes()
    )
    assert [path.name for path in (tmp_path / "run/out/samples").iterdir()] == ["step_000007.png"]


def test_sheets_that_a_kill_prevented_are_made_and_later_ones_forgotten(tiny, tmp_path, monkeypatch):
    every = {"sample_every": 2}
    sample_step = loop.sample_sheet

    def dies(*given):
        monkeypatch.setattr(loop, "sample_sheet", sample_step)
        raise Killed

    monkeypatch.setattr(loop, "sample_sheet", dies)
    with pytest.raises(Killed):
        trained(tiny, tmp_path / "run", execution=every)
    trained(tiny, tmp_path / "run", execution=every)
    assert sorted(path.name for path in (tmp_path / "run/out/samples").iterdir()) == [
        f"step_00000{n}.png" for n in (2, 4, 6)
    ]


def test_a_lost_log_is_begun_anew(tiny, tmp_path):
    whole = trained(tiny, tmp_path / "run").read_bytes()
    (tmp_path / "run/state/training_log.csv").unlink()
    assert trained(tiny, tmp_path / "run").read_bytes() == whole
    assert steps_logged(tmp_path / "run") == ["6"]


def test_speed_in_the_log_is_that_of_the_clock(tiny, tmp_path, monkeypatch):
    """A clock that ticks once a look: a window of two steps of four images begins and is read, one tick apart."""
    ticks = itertools.count()
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(loop, "peak_flops", lambda device, dtype: 8e9)
    lines: list[str] = []
    trained(tiny, tmp_path / "run", log=lines.append, execution={"checkpoint_every": 1000})
    rows = list(csv.DictReader((tmp_path / "run/out/training_log.csv").open()))
    flops = next(float(line.split()[0]) for line in lines if "GFLOP" in line) * 1e9
    for row in rows[:-1]:
        assert float(row["images_per_s"]) == 2 * tiny.training.batch_size
        assert float(row["mfu"]) == pytest.approx(2 * tiny.training.batch_size * flops / 8e9, rel=0.02)


def test_only_trainings_that_share_their_steps_share_a_key(tiny):
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


def test_a_full_disk_ends_in_a_sentence_and_the_next_run_goes_on(tiny, tmp_path):
    """On a real small disk, where this process may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a tmpfs")
    try:
        whole = trained(tiny, tmp_path / "whole")
        job = make_job(tiny, tmp_path / "whole").model_copy(
            update={"state": disk / "state", "out": tmp_path / "out"}
        )
        (tmp_path / "out").mkdir()

        def fill_after_step_three(line: str) -> None:
            if line.startswith("step 4/"):
                left = shutil.disk_usage(disk).free
                (disk / "ballast").write_bytes(b"\0" * (left - 100_000))

        with pytest.raises(PipelineError, match=r"checkpoint of step 4 cannot be written to .* make room"):
            train(job, fill_after_step_three)
        (disk / "ballast").unlink()
        lines: list[str] = []
        train(job, lines.append)
        assert "going on from step 2 of 6" in lines
        assert (tmp_path / "out" / LORA_WEIGHTS).read_bytes() == whole.read_bytes()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_killed_processes_end_in_the_same_bytes(tiny, tmp_path):
    """A process of its own, killed at random moments, then left alone. The benchmark ``kills`` does it 200 times."""
    whole = trained(
        tiny, tmp_path / "whole", training={"max_train_steps": 40}, execution={"checkpoint_every": 1}
    )
    job_file = job_in(tiny, tmp_path / "run")
    rng = random.Random(7)
    for sent in (signal.SIGKILL, signal.SIGTERM):
        process = start(job_file)
        wait_for_a_checkpoint(tmp_path / "run/state", process)
        time.sleep(rng.uniform(0, 1))
        os.kill(process.pid, sent)
        process.wait(timeout=60)
    assert start(job_file).wait(timeout=300) == 0
    assert (tmp_path / "run/out" / LORA_WEIGHTS).read_bytes() == whole.read_bytes()


def job_in(profile: Profile, root: Path) -> Path:
    root.mkdir()
    job = make_job(profile, root, training={"max_train_steps": 40}, execution={"checkpoint_every": 1})
    write_text(root / "job.json", job.model_dump_json())
    return root / "job.json"


def start(job_file: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "vdm_pipeline.stages.training.worker", str(job_file)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_a_checkpoint(state: Path, process: subprocess.Popen) -> None:
    seen = set(state.glob("step_*"))
    while process.poll() is None and set(state.glob("step_*")) <= seen:
        time.sleep(0.02)
