"""Several processes and killed ones: they leave the folder of an undisturbed process."""

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
from vdm_pipeline_tests.stages.generation.jobs import (
    contents,
    generate_rows,
    make_job,
    sample_floats,
    with_generation,
)

SCRIPT = """
import sys
from pathlib import Path
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.launch import generate

job = Job.model_validate_json(Path(sys.argv[1]).read_text())
generate(job, print, lambda *counts: print(*counts, flush=True))
"""


def test_worker_module_is_the_one_that_is_launched():
    assert worker.__name__ == module.WORKER


@pytest.mark.slow
def test_two_processes_give_the_images_of_one(tiny, tmp_path, monkeypatch):
    """The floats before rounding agree, the files are equal, and both processes report progress.

    The files are equal only if the single process has as few threads: splitting a sum decides its last bit.
    """
    monkeypatch.setattr(module, "WORKER", floats_worker.__name__)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    lines: list[str] = []
    generate(make_job(tiny, tmp_path / "two", batch=2, processes=2), lines.append, lambda *counts: None)
    job = make_job(tiny, tmp_path / "one", batch=2)
    floats = np.stack([np.load(tmp_path / f"two_floats/{sample.seed}.npy") for sample in job.samples])
    np.testing.assert_allclose(floats, sample_floats(job), atol=1e-4)
    with one_thread():
        generate_rows(tiny, tmp_path / "one", batch=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert {"process 0: 4/4 images", "process 1: 2/2 images"} <= set(lines)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_worker_reports_its_error_in_one_line(tiny, tmp_path):
    """How the launcher uses that line is tested with the training, which has the same launcher."""
    job = make_job(tiny, tmp_path / "x")
    without_base = job.model_copy(update={"arm": job.arm.model_copy(update={"base": tmp_path})})
    (tmp_path / "job.json").write_text(without_base.model_dump_json())
    command = [sys.executable, "-m", worker.__name__, str(tmp_path / "job.json")]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 1
    last_line = process.stdout.splitlines()[-1]
    assert re.match(rf"{ERROR_PREFIX}{re.escape(str(tmp_path))} .*Stable Diffusion", last_line)


def test_complete_folder_starts_no_process(tiny, tmp_path, monkeypatch):
    rows = generate_rows(tiny, tmp_path / "x")
    monkeypatch.setattr(module, "launch_workers", None)
    assert generate_rows(tiny, tmp_path / "x", processes=2) == rows


@pytest.mark.slow
def test_killed_generation_ends_in_the_same_bytes(tiny, tmp_path):
    """A process is killed at random moments after its first images.

    The benchmark ``kills generation`` does it 20 times.
    """
    profile = with_generation(tiny, per_class=20)
    generate_rows(profile, tmp_path / "whole", batch=2)
    job = make_job(profile, tmp_path / "run", batch=2)
    (tmp_path / "job.json").write_text(job.model_dump_json())
    rng, counts = random.Random(3), []
    for _ in range(2):
        process = start(tmp_path)
        assert process.stdout and process.stdout.readline()
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        counts.append(len(list(job.folder.glob("gen_*.png"))))
    assert counts == sorted(counts)
    assert counts[0] > 0
    assert counts[-1] < 40, "the kills came too late"
    process = start(tmp_path)
    process.communicate()
    assert process.returncode == 0
    assert contents(job.folder) == contents(tmp_path / "whole")


def start(folder) -> subprocess.Popen:
    """Start the generation of ``folder/job.json`` in another process."""
    command = [sys.executable, "-c", SCRIPT, str(folder / "job.json")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
