"""The moving average of the adapter: its formula, and that it is what is validated, drawn and saved."""

import pytest
from safetensors.torch import load_file

from vdm_pipeline_tests.stages.training.jobs import log_rows, trained
from vdm_pipeline_tests.stages.training.weights import initial_adapter, max_difference


def test_decay_near_0_follows_the_weights_and_near_1_stays_at_the_start(tiny, tmp_path, whole):
    plain = load_file(whole)
    follows = load_file(trained(tiny, tmp_path / "follows", training={"ema_decay": 1e-6}))
    stays = load_file(trained(tiny, tmp_path / "stays", training={"ema_decay": 1 - 1e-6}))
    moved = max_difference(plain, initial_adapter(tiny.training))
    assert max_difference(plain, follows) < 1e-4 * moved
    assert max_difference(stays, initial_adapter(tiny.training)) < 1e-4 * moved


def test_average_weighs_each_step_by_the_decay(tiny, tmp_path):
    """After two steps: d² of the start, d(1 - d) of the first step's weights, 1 - d of the second's."""
    constant = {"lr_scheduler": "constant", "lr_warmup_steps": 0}

    def weights(name: str, **changes) -> dict:
        return load_file(trained(tiny, tmp_path / name, training=constant | changes))

    first, second = weights("1", max_train_steps=1), weights("2", max_train_steps=2)
    average = weights("average", max_train_steps=2, ema_decay=0.6)
    start = initial_adapter(tiny.training)
    expected = {name: 0.36 * start[name] + 0.24 * first[name] + 0.4 * second[name] for name in start}
    assert max_difference(average, expected) < 1e-3 * max_difference(second, start)


def test_validation_loss_and_sheet_are_those_of_the_saved_average(tiny, tmp_path):
    """With a decay near 1 the saved adapter is the initial one: the steps change neither loss nor images."""
    losses, sheets = {}, {}
    for name, changes in {
        "initial": {"learning_rate": 1e-9},
        "average": {"ema_decay": 1 - 1e-6},
        "trained": {},
    }.items():
        out = trained(tiny, tmp_path / name, training=changes).parent
        losses[name] = float(log_rows(out / "training_log.csv")[-1]["validation_loss"])
        sheets[name] = (out / "samples/step_000006.png").read_bytes()
    assert losses["average"] == pytest.approx(losses["initial"], rel=1e-5)
    assert losses["trained"] != pytest.approx(losses["initial"], rel=1e-3)
    assert sheets["average"] != sheets["trained"]
