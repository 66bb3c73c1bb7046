"""From zero-shot logits to probabilities that can be believed and labels that are cut where the profile wants it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Labelling

Logits = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """``softmax(scale * logits + bias)``, and the class whose probability is largest in units of its threshold."""

    method: Literal["none", "platt", "prior"]
    decision: Literal["argmax", "balanced_accuracy", "f1", "sensitivity"]
    scale: float
    bias: tuple[float, ...]
    thresholds: tuple[float, ...]

    def probabilities(self, logits: Logits) -> Logits:
        """Calibrated probabilities ``[n, classes]``."""
        return softmax(self.scale * logits + np.asarray(self.bias))

    def decide(self, probabilities: Logits) -> Labels:
        """Labels ``[n]``. With two classes: class 1 where its probability reaches the second threshold."""
        if len(self.thresholds) == 2:
            return (probabilities[:, 1] >= self.thresholds[1]).astype(np.int64)
        return (probabilities / np.asarray(self.thresholds)).argmax(1)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def softmax(logits: Logits) -> Logits:
    """Row by row, ``[n, classes]``."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def calibrate(labelling: Labelling, logits: Logits, truth: Labels) -> Calibration:
    """What the profile asks for, learnt on the val split: ``logits`` ``[n, classes]``, true labels ``[n]``.

    ``prior`` looks at the logits alone; ``none`` at nothing. Raises `PipelineError` if val lacks a class that is needed.
    """
    classes = logits.shape[1]
    absent = [label for label in range(classes) if not (truth == label).any()]
    if labelling.calibration == "platt" and absent:
        raise PipelineError(
            f'labelling.calibration = "platt" learns from the val split, which holds no image of class {absent[0]}; set "prior" or "none".'
        )
    if labelling.calibration == "platt":
        scale, bias = fit_platt(logits, truth)
        if scale <= 0:
            raise PipelineError(
                "The labeller's scores rank the val images backwards, and calibration would turn them round by the true labels: "
                "are labelling.phrases in the order of classes.names? If they are, the scores say nothing of these classes; set "
                'labelling.calibration = "none" and decision = "argmax" to look at them.'
            )
    elif labelling.calibration == "prior":
        scale, bias = 1.0, match_prior(logits, np.asarray(labelling.prior))
    else:
        scale, bias = 1.0, np.zeros(classes)
    even = np.full(classes, 1 / classes)
    plain = Calibration(
        labelling.calibration, labelling.decision, float(scale), tuple(bias.tolist()), tuple(even.tolist())
    )
    if labelling.decision == "argmax":
        return plain
    thresholds = _thresholds(labelling, plain.probabilities(logits), truth)
    return Calibration(plain.method, plain.decision, plain.scale, plain.bias, tuple(thresholds.tolist()))


def fit_platt(logits: Logits, truth: Labels) -> tuple[float, NDArray[np.float64]]:
    """Temperature and a bias a class by maximum likelihood; with two classes this is Platt's sigmoid (1999).

    Platt's smoothed targets, ``(n_c + 1) / (n_c + classes)`` for the true class, keep it finite where the classes separate.
    """
    from scipy.optimize import minimize

    n, classes = logits.shape
    counts = np.bincount(truth, minlength=classes)
    sure = (counts + 1) / (counts + classes)
    targets = np.broadcast_to(((1 - sure) / (classes - 1))[truth][:, None], logits.shape).copy()
    targets[np.arange(n), truth] = sure[truth]
    centred = logits - logits.mean(1, keepdims=True)
    unit = max(float(centred.std()), 1e-12)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = parameters[0] / unit * centred + np.append(0.0, parameters[1:])
        top = scores.max(1, keepdims=True)
        log_sum = top[:, 0] + np.log(np.exp(scores - top).sum(1))
        residual = softmax(scores) - targets
        gradient = np.append((residual * centred).sum() / unit, residual[:, 1:].sum(0))
        return float((log_sum - (targets * scores).sum(1)).mean()), gradient / n

    found = minimize(loss, np.append(1.0, np.zeros(classes - 1)), jac=True, method="BFGS")
    return float(found.x[0] / unit), np.append(0.0, found.x[1:])


def match_prior(logits: Logits, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bias under which the mean probability of each class is its ``prior``; no label is looked at.

    The conditions are the gradient of a convex function of the bias, so there is one solution and BFGS finds it.
    """
    from scipy.optimize import minimize

    def loss(free: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = logits + np.append(0.0, free)
        top = scores.max(1, keepdims=True)
        value = (top[:, 0] + np.log(np.exp(scores - top).sum(1))).mean() - prior[1:] @ free
        return float(value), softmax(scores).mean(0)[1:] - prior[1:]

    found = minimize(loss, np.zeros(logits.shape[1] - 1), jac=True, method="BFGS")
    return np.append(0.0, found.x)


def _thresholds(labelling: Labelling, probabilities: Logits, truth: Labels) -> NDArray[np.float64]:
    """Where to cut. Balanced accuracy is largest at the classes' shares (Bayes); the others are searched for on val."""
    classes = probabilities.shape[1]
    if labelling.decision == "balanced_accuracy":
        shares = np.bincount(truth, minlength=classes) / len(truth)
        return shares / shares.sum()
    gains: dict[str, Callable[[NDArray[np.bool_]], float]] = {
        "f1": lambda called: 2 * (called & (truth == 1)).sum() / max(called.sum() + (truth == 1).sum(), 1),
        # the highest cut that still finds the wanted share: as specific as can be
        "sensitivity": lambda called: float(called[truth == 1].mean() >= labelling.sensitivity),
    }
    gain = gains[labelling.decision]
    cuts = np.unique(probabilities[:, 1])
    middles = np.append(cuts[0], (cuts[1:] + cuts[:-1]) / 2)
    values = np.array([gain(probabilities[:, 1] >= cut) for cut in middles])
    best = middles[np.flatnonzero(values == values.max())[-1]]
    return np.array([1 - best, best])
