"""Held-out images decide the validation losses, and nothing else of a training."""

import shutil

from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline_tests.stages.training.jobs import (
    CAPTIONS,
    IMAGES,
    log_rows,
    make_job,
    trained,
    write_examples,
)

EVERY_TWO = {"validate_every": 2, "log_every": 2, "checkpoint_every": 2}
OTHER = IMAGES[4:8, :, ::-1].copy()


def other_held_out(root) -> None:
    shutil.rmtree(root / "held_out")
    write_examples(root / "held_out", OTHER, CAPTIONS[4:8])


def losses(root) -> dict[str, str]:
    return {row["step"]: row["validation_loss"] for row in log_rows(root / "out/training_log.csv")}


def test_other_held_out_images_cost_no_step_and_give_the_losses_of_a_training_with_them(tiny, tmp_path):
    ema = {"ema_decay": 0.5}
    root, second = tmp_path / "run", tmp_path / "second"
    adapter = trained(tiny, root, execution=EVERY_TWO, training=ema).read_bytes()
    before, lines = losses(root), []
    other_held_out(root)
    assert trained(tiny, root, lines.append, execution=EVERY_TWO, training=ema).read_bytes() == adapter
    assert "resuming from step 6/6" in lines
    assert any("validation losses up to step 6 again" in line for line in lines)

    second.mkdir()
    make_job(tiny, second)
    other_held_out(second)
    assert trained(tiny, second, execution=EVERY_TWO, training=ema).read_bytes() == adapter
    assert list(losses(root)) == ["2", "4", "6"] and losses(root) == losses(second)
    assert all(losses(root)[step] != before[step] for step in before)


def test_the_same_images_are_not_measured_again(tiny, tmp_path):
    trained(tiny, tmp_path / "run", execution=EVERY_TWO)
    before, lines = losses(tmp_path / "run"), []
    trained(tiny, tmp_path / "run", lines.append, execution=EVERY_TWO)
    assert losses(tmp_path / "run") == before
    assert not any("again" in line for line in lines)


def test_a_loss_whose_weights_are_lost_or_damaged_becomes_blank(tiny, tmp_path):
    root = tmp_path / "run"
    trained(tiny, root, execution=EVERY_TWO)
    (root / "state/validation/step_00000002.safetensors").unlink()
    damaged = root / "state/validation/step_00000004.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:99])
    other_held_out(root)
    trained(tiny, root, execution=EVERY_TWO)
    assert [bool(loss) for loss in losses(root).values()] == [False, False, True]


def test_an_interrupted_training_continues_with_other_held_out_images(tiny, tmp_path):
    """Rows before the checkpoint are measured again, and the rest is trained."""
    root, whole = tmp_path / "run", tmp_path / "whole"
    stop = {"training": {"lr_scheduler": "constant", "max_train_steps": 4}}
    trained(tiny, root, execution=EVERY_TWO, **stop)
    other_held_out(root)
    trained(tiny, root, execution=EVERY_TWO, training={"lr_scheduler": "constant"})
    whole.mkdir()
    make_job(tiny, whole)
    other_held_out(whole)
    trained(tiny, whole, execution=EVERY_TWO, training={"lr_scheduler": "constant"})
    assert losses(root) == losses(whole) and len(losses(root)) == 3
    assert (root / "out" / LORA_WEIGHTS).read_bytes() == (whole / "out" / LORA_WEIGHTS).read_bytes()
