"""The whole training script at a tiny scale, as a user runs it, undisturbed and killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import psutil
import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionPipeline
from safetensors import safe_open

from vdm_pipeline.embedded.training.figures import measure
from vdm_pipeline.io.hashing import folder_digest
from vdm_pipeline_tests.paths import ROOT
from vdm_pipeline_tests.real_data import REAL_ARCHIVE, needs_real_archive

pytestmark = pytest.mark.slow
SCALE = 0.001
STEPS = {"clip": 2, "vae": 8, "sd": 6, "lcm": 2}


def start(folder: Path, *options: str, scale: float = SCALE) -> subprocess.Popen:
    """The script on the CPU, with a checkpoint after each step."""
    fixed = ["--scale", str(scale), "--device", "cpu", "--checkpoint-minutes", "0"]
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "vdm_pipeline.embedded.training", folder / "work"),
            *("--export", folder / "models", *fixed, *options),
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Work folder and models of an undisturbed run."""
    folder = tmp_path_factory.mktemp("trained")
    finish(start(folder))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Every exported file, and every final checkpoint: its name has the sha256 of the weights."""
    files = {path.relative_to(folder): path for path in (folder / "models").rglob("*") if path.is_file()}
    last = [
        (f"{name} {path.name}", b"")
        for name, steps in STEPS.items()
        for path in (folder / "work" / name).glob(f"step_{steps:08d}*")
    ]
    return {str(name): path.read_bytes() for name, path in files.items()} | dict(last)


def assert_same_content(folder: Path, other: Path) -> None:
    ours, others = content(folder), content(other)
    assert ours.keys() == others.keys()
    assert [name for name in ours if ours[name] != others[name]] == []


def test_exported_models_load_in_their_libraries(trained):
    models = trained / "models"
    name = f"local-dir:{models / 'clip'}"
    model, tokenizer = open_clip.create_model(name), open_clip.get_tokenizer(name)
    assert model.encode_text(tokenizer(["pneumonia"])).isfinite().all()
    pipe = StableDiffusionPipeline.from_pretrained(models / "sd", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "np"}
    base = pipe("healthy lungs", generator=torch.Generator().manual_seed(0), **options).images
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    pipe.load_lora_weights(models / "lcm_lora")
    distilled = pipe("healthy lungs", generator=torch.Generator().manual_seed(0), **options).images
    assert base.shape == distilled.shape == (1, 64, 64, 3)
    assert np.isfinite(base).all() and not np.allclose(base, distilled)


def test_pins_figures_and_cards_are_those_of_the_models(trained):
    models = trained / "models"
    pins = json.loads((models / "pins.json").read_text())
    assert pins == {name: folder_digest(models / name) for name in ("clip", "sd", "lcm_lora")}
    figures = json.loads((models / "figures.json").read_text())
    assert figures["training"]["vae"] == {"steps": 8, "batch_size": 16, "films_per_class": 12}
    error = figures["phantoms"]["vae"]["mean_error"]
    assert f"mean error is {error:.2f} of 255" in (models / "sd/README.md").read_text()
    assert "PneumoniaMNIST" not in (models / "clip/README.md").read_text()


def test_weights_are_fp16_and_readable_by_all(trained):
    for path in (trained / "models").rglob("*.safetensors"):
        assert path.stat().st_mode & 0o777 == 0o644
        with safe_open(path, "pt") as file:
            assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_checkpoint_files_are_at_most_16_mib_and_only_two_are_kept(trained):
    files = list((trained / "work").rglob("*.safetensors"))
    assert len(files) > 10 and max(path.stat().st_size for path in files) <= 16 * 2**20
    assert {len(list((trained / "work" / name).glob("step_*"))) for name in STEPS} == {2}


def kill_at(process: subprocess.Popen, is_due: Callable[[], bool]) -> None:
    """Kill -9 as soon as ``is_due``; the workers end too."""
    while not is_due():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert workers and not alive


def test_killed_runs_end_with_the_bytes_of_an_undisturbed_one(trained, tmp_path):
    """Killed while films are rendered, in the middle of two stages, and between two."""
    work = tmp_path / "work"
    moments = [
        lambda: any(work.glob("films_*")),
        lambda: any((work / "vae").glob("step_00000003*")),
        lambda: any((work / "vae").glob(f"step_{STEPS['vae']:08d}*")),
        lambda: any((work / "sd").glob("step_00000002*")),
    ]
    for is_due in moments:
        kill_at(start(tmp_path), is_due)
    output = finish(start(tmp_path))
    assert f"vae: {STEPS['vae']} of {STEPS['vae']} steps are done" in output
    assert_same_content(tmp_path, trained)


def test_stages_one_by_one_end_with_the_bytes_of_one_run(trained, tmp_path):
    output = finish(start(tmp_path, "--only", "vae", "sd"))
    assert f"no model cards and pins yet: {tmp_path / 'models'} lacks clip, lcm_lora" in output
    assert not (tmp_path / "models/pins.json").exists()
    finish(start(tmp_path, "--only", "lcm", "clip"))
    assert_same_content(tmp_path, trained)


def test_bf16_trains_every_stage(tmp_path):
    """On a CPU it is emulated; a GPU with bf16 uses it by default."""
    output = finish(start(tmp_path, "--precision", "bf16", scale=0.0003))
    assert "bfloat16" in output
    figures = json.loads((tmp_path / "models/figures.json").read_text())
    assert all(np.isfinite(figures["phantoms"]["sd"][key]) for key in ("kernel_distance", "sharpness"))


@needs_real_archive
@pytest.mark.real_data
def test_real_figures_stay_until_the_labeller_changes(trained, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(trained / "models", models)
    card = models / "clip/README.md"
    measure(models, torch.device("cpu"), 8, REAL_ARCHIVE)
    assert "split of PneumoniaMNIST, ROC AUC 0." in card.read_text()
    measure(models, torch.device("cpu"), 8, None)
    assert "split of PneumoniaMNIST, ROC AUC 0." in card.read_text()
    (models / "clip/another").touch()
    measure(models, torch.device("cpu"), 8, None)
    assert "PneumoniaMNIST" not in card.read_text()
