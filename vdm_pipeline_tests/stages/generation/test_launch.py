"""Several processes and killed ones: the folder of one that nothing disturbed."""

import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from vdm_pipeline.stages.generation import launch as module
from vdm_pipeline.stages.generation import worker
from vdm_pipeline.stages.generation.launch import generate
from vdm_pipeline.stages.runtime.launcher import ERROR_PREFIX
from vdm_pipeline_tests.stages.generation import floats_worker
from vdm_pipeline_tests.stages.generation.jobs import contents, draw, with_generation, make_job
from vdm_pipeline_tests.stages.generation.test_pipeline import floats

SCRIPT = """
import sys
from pathlib import Path
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.launch import generate
generate(Job.model_validate_json(Path(sys.argv[1]).read_text()), print, lambda *counts: print(*counts, flush=True))
"""


def test_two_processes_give_the_images_of_one(tiny, tmp_path, monkeypatch):
    """Their floats before rounding, their files to a grey level, and lines of progress from both.

    To a bit only if one process has as few threads: how a sum is split between threads decides its last bit.
    """
    plain = module.launch
    monkeypatch.setattr(module, "launch", lambda worker, *a: plain(floats_worker.__name__, *a))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    lines: list[str] = []
    generate(make_job(tiny, tmp_path / "two", batch=2, processes=2), lines.append, lambda *counts: None)
    one = make_job(tiny, tmp_path / "one", batch=2)
    theirs = np.stack([np.load(tmp_path / f"two_floats/{shot.seed}.npy") for shot in one.samples])
    np.testing.assert_allclose(theirs, floats(one), atol=1e-4)
    with one_thread():
        draw(tiny, tmp_path / "one", batch=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert {"process 0: 4/4 images", "process 1: 2/2 images"} <= set(lines)


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_workers_fault_is_the_line_that_a_launcher_knows(tiny, tmp_path):
    """What the launcher makes of it is shown with those of a training, which is launched by the same code."""
    job = make_job(tiny, tmp_path / "x")
    (tmp_path / "job.json").write_text(
        job.model_copy(update={"arm": job.arm.model_copy(update={"base": tmp_path})}).model_dump_json()
    )
    done = subprocess.run(
        [sys.executable, "-m", worker.__name__, str(tmp_path / "job.json")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.fullmatch(
        rf"{ERROR_PREFIX}.+ is no Stable Diffusion folder: it lacks .+", done.stdout.splitlines()[-1]
    )


def test_whole_folder_starts_no_process(tiny, tmp_path, monkeypatch):
    rows = draw(tiny, tmp_path / "x")
    monkeypatch.setattr(module, "launch", None)
    assert draw(tiny, tmp_path / "x", processes=2) == rows


@pytest.mark.slow
def test_killed_generation_ends_in_the_same_bytes(tiny, tmp_path):
    """A process of its own, killed at random moments after its first images. The benchmark ``kills generation`` does it 20 times."""
    profile = with_generation(tiny, per_class=20)
    draw(profile, tmp_path / "whole", batch=2)
    job = make_job(profile, tmp_path / "run", batch=2)
    (tmp_path / "job.json").write_text(job.model_dump_json())
    rng, left = random.Random(3), []
    for _ in range(2):
        process = start(tmp_path)
        assert process.stdout and process.stdout.readline()
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        left.append(len(list(job.folder.glob("gen_*.png"))))
    assert left == sorted(left)
    assert left[0] > 0
    assert left[-1] < 40, "the kills came too late"
    process = start(tmp_path)
    process.communicate()
    assert process.returncode == 0
    assert contents(job.folder) == contents(tmp_path / "whole")


def start(folder) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder / "job.json")], stdout=subprocess.PIPE, text=True
    )
