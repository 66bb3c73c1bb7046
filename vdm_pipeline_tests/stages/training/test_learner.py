"""One step: AdamW as torch has it, clipping that clips, broken gradients that do no harm, parts that change nothing."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Training
from vdm_pipeline.stages.models.diffusion import load_component
from vdm_pipeline.stages.training.adapter import add_lora
from vdm_pipeline.stages.training.encoding import Encoder
from vdm_pipeline.stages.training.objective import Objective
from vdm_pipeline.stages.training.randomness import sample_step
from vdm_pipeline_tests.stages.training.jobs import BASE, CAPTIONS, IMAGES, silent, trained

CPU = torch.device("cpu")


def start(training: Training) -> dict[str, torch.Tensor]:
    """The adapter before the first step, under the names of the file."""
    named = add_lora(load_component(BASE, "unet"), training)
    return {f"unet.{name.replace('.default', '')}": value.detach() for name, value in named.items()}


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_training_equals_a_plain_loop_with_the_rates_of_the_schedule(tiny, tmp_path):
    changes = {"max_train_steps": 4, "lr_warmup_steps": 2}
    training = tiny.training.model_copy(update=changes)
    unet = load_component(BASE, "unet")
    named = add_lora(unet, training)
    data = Encoder(BASE, tmp_path / "cache", 64, CPU, torch.float32).encode(
        IMAGES, CAPTIONS, flip=False, log=silent
    )
    objective = Objective(load_component(BASE, "scheduler"), training, CPU)
    optimizer = torch.optim.AdamW(named.values(), weight_decay=training.weight_decay)
    for step, share in enumerate([0.5, 1, 1, 0.1]):
        loss = objective.losses(unet, data, sample_step(8, data.latent, training, 1000, step)).mean()
        grads = torch.autograd.grad(loss, list(named.values()))
        norm = torch.cat([grad.flatten() for grad in grads]).norm()
        for value, grad in zip(named.values(), grads, strict=True):
            value.grad = grad * min(1.0, training.max_grad_norm / float(norm))
        optimizer.param_groups[0]["lr"] = share * training.learning_rate
        optimizer.step()
    plain = {f"unet.{name.replace('.default', '')}": value.detach() for name, value in named.items()}
    found = load_file(trained(tiny, tmp_path / "run", training=changes))
    assert found.keys() == plain.keys()
    assert distance(found, plain) < 1e-2 * distance(plain, start(training))


def test_weight_decay_shrinks_what_has_no_gradient(tiny, tmp_path):
    changes = {"max_train_steps": 1, "lr_warmup_steps": 0, "learning_rate": 0.1, "weight_decay": 0.5}
    before = start(tiny.training.model_copy(update=changes))
    after = load_file(trained(tiny, tmp_path / "run", training=changes))
    # lora_B starts at zero, so the first step gives lora_A no gradient and only the decay moves it
    down = [name for name in before if "lora_A" in name]
    assert len(down) == len(before) / 2
    for name in down:
        torch.testing.assert_close(after[name], before[name] * 0.95)


@pytest.mark.parametrize("norm", [1e-10, 3e-11])
def test_gradients_are_clipped_to_the_norm(tiny, tmp_path, norm):
    changes = {"max_train_steps": 1, "lr_warmup_steps": 0, "max_grad_norm": norm}
    after = load_file(trained(tiny, tmp_path / "run", training=changes))
    moved = torch.cat([value.flatten() for name, value in after.items() if "lora_B" in name]).norm()
    # Adam's first update is lr * g / (|g| + 1e-8), so gradients far below 1e-8 show in the size of the step
    assert float(moved) == pytest.approx(tiny.training.learning_rate * norm / 1e-8, rel=0.02)


def test_a_broken_gradient_moves_nothing_and_training_goes_on(tiny, tmp_path, monkeypatch):
    good, calls = Objective.losses, []

    def broken_at_the_third_step(self, unet, data, randomness):
        losses = good(self, unet, data, randomness)
        calls.append(len(randomness.rows))
        return (
            losses * float("nan") if calls.count(4) == 3 else losses
        )  # steps have four images, the FLOP count one

    seen: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(Objective, "losses", broken_at_the_third_step)
    quick = {"log_every": 1, "checkpoint_every": 1, "validate_every": 1000}
    lines: list[str] = []

    def look(line: str) -> None:
        lines.append(line)
        if line.startswith("step"):
            folder = tmp_path / "run/state"
            newest = max(folder.glob("step_*"), default=None)
            seen.append(load_file(newest) if newest else {})

    path = trained(tiny, tmp_path / "run", log=look, execution=quick)
    after_two, after_three = seen[2], seen[3]  # the checkpoint of a step is written after its line
    weights = [
        name
        for name in after_two
        if name.startswith(("weight/", "optimizer/")) and "skipped" not in name and "bad" not in name
    ]
    assert len(weights) > 10
    assert all(torch.equal(after_two[name], after_three[name]) for name in weights)
    assert all(torch.isfinite(value).all() for value in load_file(path).values())
    assert "1 steps skipped so far" in lines[-1]
    assert not torch.equal(seen[4][weights[0]], after_three[weights[0]])


def test_gradients_that_stay_broken_end_the_training_and_the_last_good_checkpoint_stays(
    tiny, tmp_path, monkeypatch
):
    good, calls = Objective.losses, []

    def broken_from_the_fourth_step(self, unet, data, randomness):
        calls.append(len(randomness.rows))
        return good(self, unet, data, randomness) * (float("nan") if calls.count(4) >= 4 else 1.0)

    monkeypatch.setattr(Objective, "losses", broken_from_the_fourth_step)
    with pytest.raises(
        PipelineError,
        match=r"gradients of 3 steps in a row up to step 6 are not finite; lower training\.learning_rate",
    ):
        trained(tiny, tmp_path / "run", training={"max_nonfinite_steps": 2})
    assert not list((tmp_path / "run/out").glob("*.safetensors"))
    kept = [load_file(path) for path in sorted((tmp_path / "run/state").glob("step_*"))]
    assert [int(path.name[5:13]) for path in sorted((tmp_path / "run/state").glob("step_*"))] == [2, 4]
    assert all(torch.isfinite(value).all() for state in kept for value in state.values())


def test_broken_gradients_end_the_training_however_seldom_it_is_logged(tiny, tmp_path, monkeypatch):
    """Three broken steps in a row, and good ones after them, between two rows of the log."""
    good, calls = Objective.losses, []

    def broken_for_a_while(self, unet, data, randomness):
        calls.append(len(randomness.rows))
        return good(self, unet, data, randomness) * (float("nan") if 2 <= calls.count(4) <= 4 else 1.0)

    monkeypatch.setattr(Objective, "losses", broken_for_a_while)
    seldom = {"log_every": 1000, "checkpoint_every": 1000}
    with pytest.raises(PipelineError, match=r"gradients of 3 steps in a row up to step 6"):
        trained(tiny, tmp_path / "run", training={"max_nonfinite_steps": 2}, execution=seldom)


def test_a_training_without_one_good_step_is_no_training(tiny, tmp_path, monkeypatch):
    good = Objective.losses
    monkeypatch.setattr(Objective, "losses", lambda *given: good(*given) * float("nan"))
    with pytest.raises(PipelineError, match=r"gradients of 4 steps in a row up to step 4"):
        trained(tiny, tmp_path / "run", training={"max_train_steps": 4, "max_nonfinite_steps": 50})
    rows = [row.split(",") for row in (tmp_path / "run/state/training_log.csv").read_text().splitlines()[1:]]
    assert [row[1] for row in rows] == [""], "no loss, rather than 0"


@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_change_nothing(tiny, tmp_path, micro):
    whole = load_file(trained(tiny, tmp_path / "whole"))
    parts = load_file(trained(tiny, tmp_path / "parts", execution={"micro_batch_size": micro}))
    moved = distance(whole, start(tiny.training))
    assert distance(whole, parts) < 1e-2 * moved


def test_out_of_memory_halves_the_micro_batch_and_changes_nothing(tiny, tmp_path, monkeypatch):
    whole = load_file(trained(tiny, tmp_path / "whole"))
    good, lines = Objective.losses, []

    def only_one_fits(self, unet, data, randomness):
        if len(randomness.rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return good(self, unet, data, randomness)

    monkeypatch.setattr(Objective, "losses", only_one_fits)
    found = load_file(trained(tiny, tmp_path / "small", log=lines.append))
    assert [line.split(":")[1] for line in lines if line.startswith("out of memory")] == [
        f" going on with {n} images at a time, to the same result" for n in (2, 1)
    ]
    assert distance(whole, found) < 1e-2 * distance(whole, start(tiny.training))


def test_memory_that_does_not_hold_one_image_is_a_sentence(tiny, tmp_path, monkeypatch):
    def none_fits(self, unet, data, randomness):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Objective, "losses", none_fits)
    with pytest.raises(
        PipelineError,
        match=r"1 images at a time do not fit the GPU's memory; set a smaller execution\.micro_batch",
    ):
        trained(tiny, tmp_path / "run")


def test_running_mean_is_that_of_the_weights(tiny, tmp_path):
    """With a decay near 0 the mean follows the weights; with one near 1 it stays at the start."""
    plain = load_file(trained(tiny, tmp_path / "plain"))
    follows = load_file(trained(tiny, tmp_path / "follows", training={"ema_decay": 1e-6}))
    stays = load_file(trained(tiny, tmp_path / "stays", training={"ema_decay": 1 - 1e-6}))
    moved = distance(plain, start(tiny.training))
    assert distance(plain, follows) < 1e-4 * moved
    assert distance(stays, start(tiny.training)) < 1e-4 * moved


def test_running_mean_weighs_each_step_by_the_decay(tiny, tmp_path):
    """Mean after two steps: d² of the start, d(1 - d) of the first step's weights, 1 - d of the second's."""
    constant = {"lr_scheduler": "constant", "lr_warmup_steps": 0}
    first, second = (
        load_file(trained(tiny, tmp_path / f"{n}", training=constant | {"max_train_steps": n}))
        for n in (1, 2)
    )
    mean = load_file(
        trained(tiny, tmp_path / "mean", training=constant | {"max_train_steps": 2, "ema_decay": 0.6})
    )
    origin = start(tiny.training)
    expected = {name: 0.36 * origin[name] + 0.24 * first[name] + 0.4 * second[name] for name in origin}
    assert distance(mean, expected) < 1e-3 * distance(second, origin)


def test_validation_loss_and_sheet_are_those_of_the_mean_that_is_saved(tiny, tmp_path):
    """With a decay near 1 the saved adapter is the fresh one, whose loss and pictures do not depend on the training."""
    ways = {}
    for name, changes in {
        "still": {"learning_rate": 1e-9},
        "mean": {"ema_decay": 1 - 1e-6},
        "moved": {},
    }.items():
        trained(tiny, tmp_path / name, training=changes)
        last = (tmp_path / name / "out/training_log.csv").read_text().splitlines()[-1].split(",")
        ways[name] = float(last[2]), (tmp_path / name / "out/samples/step_000006.png").read_bytes()
    assert ways["mean"][0] == pytest.approx(ways["still"][0], rel=1e-5) and ways["moved"][0] != pytest.approx(
        ways["still"][0], rel=1e-3
    )
    assert ways["mean"][1] != ways["moved"][1]


def test_only_the_adapter_is_trained_and_in_fp32(tiny):
    unet = load_component(BASE, "unet", torch.bfloat16)
    parameters = add_lora(unet, tiny.training)
    assert {value.dtype for value in parameters.values()} == {torch.float32}
    assert {name for name, value in unet.named_parameters() if value.requires_grad} == set(parameters)


def test_small_updates_are_not_lost_on_a_half_precision_base(tiny, tmp_path, monkeypatch):
    """With bf16 weights most updates of 1e-4 vanish; fp32 ones all move."""
    from vdm_pipeline.stages.training import loop

    monkeypatch.setattr(loop, "pick_dtype", lambda device: torch.bfloat16)
    monkeypatch.setattr(loop, "peak_flops", lambda device, dtype: 1e9)  # minutes, on a CPU that emulates bf16
    changes = {"max_train_steps": 2, "lr_warmup_steps": 0, "learning_rate": 1e-5}
    before = start(tiny.training.model_copy(update=changes))
    after = load_file(trained(tiny, tmp_path / "run", training=changes))
    moved = torch.cat([(after[name] != before[name]).flatten() for name in before if "lora_B" in name])
    assert moved.float().mean() > 0.99


def test_gradient_checkpointing_changes_nothing(tiny, tmp_path, monkeypatch):
    plain = load_file(trained(tiny, tmp_path / "plain"))
    asked = []
    enable = UNet2DConditionModel.enable_gradient_checkpointing
    monkeypatch.setattr(
        UNet2DConditionModel, "enable_gradient_checkpointing", lambda unet: (asked.append(unet), enable(unet))
    )
    saved = load_file(trained(tiny, tmp_path / "saved", execution={"gradient_checkpointing": True}))
    assert len(asked) == 1
    assert distance(plain, saved) < 1e-3 * distance(plain, start(tiny.training))


def test_unknown_target_is_a_sentence(tiny):
    with pytest.raises(PipelineError, match=r"training\.target_modules"):
        add_lora(load_component(BASE, "unet"), tiny.training.model_copy(update={"target_modules": ("nowhere",)}))


def test_files_are_where_they_should_be(tiny, tmp_path):
    path: Path = trained(tiny, tmp_path / "run")
    assert {p.name for p in path.parent.iterdir()} == {path.name, "training_log.csv", "samples"}
    assert [p.name for p in (path.parent / "samples").iterdir()] == ["step_000006.png"]
