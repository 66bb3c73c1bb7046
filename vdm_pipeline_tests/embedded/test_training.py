"""The parts of the training script: films, loop, precision, options, cards."""

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vdm_pipeline.embedded.training import films as films_module
from vdm_pipeline.embedded.training import run as run_module
from vdm_pipeline.embedded.training.__main__ import main
from vdm_pipeline.embedded.training.cards import render_cards
from vdm_pipeline.embedded.training.films import FILMS_PER_FILE, SEED, SIZE, Films, open_films, write_films
from vdm_pipeline.embedded.training.loop import MAX_FILE_BYTES, train, update
from vdm_pipeline.embedded.training.run import Run, training_dtype
from vdm_pipeline.settings import EMBEDDED
from vdm_pipeline.stages.data.phantom.film import render

CPU = torch.device("cpu")


class Inline:
    """A pool that works at once, and notes what it did."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def submit(self, function, path, *arguments):
        self.done.append(path.name)
        future: Future = Future()
        future.set_result(function(path, *arguments))
        return future


def test_films_are_those_of_the_renderer_across_files(tmp_path, monkeypatch):
    monkeypatch.setattr(films_module, "FILMS_PER_FILE", 10)
    images = Films(tmp_path, Inline()).load(25, pneumonia=True)
    assert np.array_equal(images, render(SEED, np.arange(25), np.ones(25, bool), SIZE))


def test_finished_files_are_kept_and_those_of_killed_workers_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(films_module, "FILMS_PER_FILE", 4)
    before = Inline()
    Films(tmp_path, before).load(8, pneumonia=False)
    (tmp_path / ".normal_00000008_4.npy.0123abcd.part.npy").write_bytes(b"half")
    again = Inline()
    films = Films(tmp_path, again)
    films.render_ahead(12, pneumonia=False)
    assert len(films.load(12, pneumonia=False)) == 12
    assert again.done == ["normal_00000008_4.npy"]
    assert len(list(tmp_path.iterdir())) == 3


def test_workers_render_the_same_films(tmp_path):
    with open_films(tmp_path / "workers") as films:
        images = films.load(3, pneumonia=False)
    assert np.array_equal(images, render(SEED, np.arange(3), np.zeros(3, bool), SIZE))


def test_a_file_of_films_is_small(tmp_path):
    write_films(tmp_path / "x.npy", 0, 2, False)
    assert (tmp_path / "x.npy").stat().st_size / 2 * FILMS_PER_FILE < MAX_FILE_BYTES


def make_run(work: Path, **changes) -> Run:
    run = Run(work, CPU, torch.float32, 1.0, 0.0, Films(work / "films", Inline()), print)
    return replace(run, **changes)


class Stopped(Exception):
    pass


def fit(run: Run, steps: int, stop_after: int | None = None) -> nn.Module:
    """Train a small network; the loop ends with an exception after ``stop_after`` steps."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, fused=True)

    def step(index: int) -> dict[str, torch.Tensor]:
        if index == stop_after:
            raise Stopped
        x = torch.randn(4, 8, generator=run.generator(index), device=run.device)
        with run.autocast():
            y = network(x).float()
        loss = ((y - x) ** 2).mean()
        update(optimizer, loss, network.parameters())
        return {"loss": loss.detach()}

    modules, optimizers = {"network": network}, {"network": optimizer}
    train(step, run=run, stage="small", steps=steps, modules=modules, optimizers=optimizers)
    return network


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loop_resumes_bit_for_bit(tmp_path, dtype):
    whole = fit(make_run(tmp_path / "whole", dtype=dtype), 9)
    with pytest.raises(Stopped):
        fit(make_run(tmp_path / "cut", dtype=dtype), 9, stop_after=5)
    assert same(fit(make_run(tmp_path / "cut", dtype=dtype), 9), whole)
    assert same(fit(make_run(tmp_path / "cut", dtype=dtype), 9, stop_after=0), whole)  # finished: no step


def test_a_checkpoint_is_due_by_time_and_at_the_end(tmp_path):
    with pytest.raises(Stopped):
        fit(make_run(tmp_path, checkpoint_s=3600), 9, stop_after=5)
    assert list((tmp_path / "small").iterdir()) == []
    fit(make_run(tmp_path, checkpoint_s=3600), 9)
    assert [path.name[:13] for path in (tmp_path / "small").iterdir()] == ["step_00000009"]


def test_losses_are_read_only_for_a_progress_line(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(torch.Tensor, "__float__", lambda self: read.append(1) or 0.0)
    fit(make_run(tmp_path), 9)
    assert len(read) == 1


def test_bf16_computes_the_forward_pass_and_keeps_fp32_weights(tmp_path):
    run = make_run(tmp_path, dtype=torch.bfloat16)
    layer = nn.Linear(8, 8)
    with run.autocast():
        y = layer(torch.randn(2, 8))
    assert y.dtype == torch.bfloat16
    network = fit(run, 3)
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    assert not same(network, fit(make_run(tmp_path / "fp32"), 3))


def test_fp16_is_not_trained_in(monkeypatch):
    for native, dtype in [(torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)]:
        monkeypatch.setattr(run_module, "pick_dtype", lambda _, native=native: native)
        assert training_dtype(CPU) == dtype


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--scale", "0"], "argument --scale: it is 0; give a number above 0"),
        (["--scale", "nan"], "argument --scale: 'nan' is not a number of at least 0"),
        (["--checkpoint-minutes", "-1"], "argument --checkpoint-minutes: '-1' is not a number of at least 0"),
        (["--only", "clap"], "argument --only: invalid choice: 'clap'"),
        (["--precision", "fp16"], "argument --precision: invalid choice: 'fp16'"),
    ],
)
def test_wrong_option_is_one_sentence(capsys, options, sentence):
    with pytest.raises(SystemExit) as error:
        main(["work", *options])
    usage, message = capsys.readouterr().err.splitlines()
    assert error.value.code == 2 and usage.endswith("WORK_FOLDER [options]") and sentence in message


def run_script(tmp_path: Path, capsys, *options: str) -> str:
    """The one line on stderr of a run that fails."""
    assert main([str(tmp_path / "work"), "--export", str(tmp_path / "models"), *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_stage_without_the_one_before_is_one_sentence(tmp_path, capsys):
    line = run_script(tmp_path, capsys, "--device", "cpu", "--only", "lcm")
    assert line == f"--only lcm needs a finished sd, which {tmp_path / 'work'} lacks; add it to --only."


def test_stage_on_another_model_than_the_one_before_is_one_sentence(tmp_path, capsys):
    (tmp_path / "work/sd/step_00000001.0").mkdir(parents=True)
    line = run_script(tmp_path, capsys, "--device", "cpu")
    assert line.startswith(f"{tmp_path / 'work/sd'} was trained on another vae than the one that is trained")


def test_work_folder_of_another_scale_is_one_sentence(tmp_path, capsys):
    work = tmp_path / "work"
    (work / "vae/step_00000001.0").mkdir(parents=True)
    (work / "run.json").write_text('{"scale": 0.5, "phantom renderer": 2}')
    line = run_script(tmp_path, capsys, "--device", "cpu", "--scale", "0.25")
    assert line.startswith(f"{work} holds a training with scale 0.5, phantom renderer 2, not scale 0.25")


def test_missing_archive_and_unwritable_folders_are_one_sentence(tmp_path, capsys):
    line = run_script(tmp_path, capsys, "--real", "nowhere.npz")
    assert line == "--real: nowhere.npz is not a file; name a pneumoniamnist.npz of 28 pixels."
    (tmp_path / "models").rmdir()
    (tmp_path / "models").write_text("a file")
    assert run_script(tmp_path, capsys) == (
        f"{tmp_path / 'models'} cannot be written to (File exists); name another folder."
    )


def test_missing_gpu_is_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = run_script(tmp_path, capsys, "--device", "cuda")
    assert line == "--device is 'cuda' but torch finds no CUDA device; set it to 'auto' or 'cpu'."


def test_packaged_cards_are_those_of_the_packaged_figures():
    cards = render_cards(EMBEDDED)
    assert {name: (EMBEDDED / name / "README.md").read_text() for name in cards} == cards
