"""Means and speed between two rows of the training log."""

import pytest
import torch

from vdm_pipeline.stages.training import log_window
from vdm_pipeline.stages.training.log_window import LogWindow


class OneProcess:
    """Accelerate's `reduce` in one process."""

    def reduce(self, value: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        return value


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    time = {"now": 100.0}
    monkeypatch.setattr(log_window.time, "perf_counter", lambda: time["now"])
    return time


def test_pauses_do_not_count_as_training_and_neither_do_the_steps_before_them(clock):
    """30 steps in 15 s, a sample sheet of 7 s, then 20 steps in 4 s: the speed is 5 steps a second."""
    window = LogWindow(0, torch.device("cpu"))
    clock["now"] += 15 + 7
    window.restart_clock(30)
    clock["now"] += 4
    assert window.steps_per_s(50) == pytest.approx(5.0)


def test_without_a_pause_all_steps_count(clock):
    window = LogWindow(10, torch.device("cpu"))
    clock["now"] += 5
    assert window.steps_per_s(30) == pytest.approx(4.0)


def test_steps_with_a_non_finite_gradient_do_not_count_in_the_loss():
    window = LogWindow(0, torch.device("cpu"))
    for loss, norm in ((4.0, 1.0), (float("nan"), float("inf")), (8.0, 2.0)):
        window.add(torch.tensor(loss), torch.tensor(norm))
    assert window.means(OneProcess(), batch_size=2) == (pytest.approx(3.0), 2.0)


def test_without_a_finite_step_there_are_no_means():
    window = LogWindow(0, torch.device("cpu"))
    window.add(torch.tensor(1.0), torch.tensor(float("nan")))
    assert window.means(OneProcess(), batch_size=1) == (None, None)
