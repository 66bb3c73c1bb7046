"""Calibrate zero-shot logits, and choose the decision thresholds of the labels."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Labelling

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """Probabilities ``softmax(scale * logits + bias)``, and thresholds that decide the labels."""

    method: Literal["none", "platt", "prior"]
    decision: Literal["argmax", "balanced_accuracy", "f1", "sensitivity"]
    scale: float
    bias: tuple[float, ...]
    thresholds: tuple[float, ...]

    def probabilities(self, logits: Floats) -> Floats:
        """Calibrated probabilities ``[n, classes]``."""
        return softmax(self.scale * logits + np.asarray(self.bias))

    def decide(self, probabilities: Floats) -> Labels:
        """Labels ``[n]``: the class with the largest ratio of probability to threshold.

        With two classes, class 1 if its probability reaches its threshold.
        """
        if len(self.thresholds) == 2:
            return (probabilities[:, 1] >= self.thresholds[1]).astype(np.int64)
        return (probabilities / np.asarray(self.thresholds)).argmax(1)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def softmax(logits: Floats) -> Floats:
    """Softmax of each row, ``[n, classes]``."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def calibrate(labelling: Labelling, logits: Floats, truth: Labels, class_names: Sequence[str]) -> Calibration:
    """Fit the configured calibration and thresholds on val.

    Takes logits ``[n, classes]`` and true labels ``[n]``. ``prior`` does not use the labels; ``none`` fits
    nothing. Raises `PipelineError` if val lacks a class that is needed, or if the logits rank the classes
    backwards.
    """
    scale, bias = _scale_and_bias(labelling, logits, truth, class_names)
    uniform = np.full(logits.shape[1], 1 / logits.shape[1])
    argmax = Calibration(
        labelling.calibration, labelling.decision, scale, tuple(bias.tolist()), tuple(uniform.tolist())
    )
    if labelling.decision == "argmax":
        return argmax
    thresholds = _thresholds(labelling, argmax.probabilities(logits), truth)
    return Calibration(argmax.method, argmax.decision, scale, argmax.bias, tuple(thresholds.tolist()))


def _scale_and_bias(
    labelling: Labelling, logits: Floats, truth: Labels, class_names: Sequence[str]
) -> tuple[float, Floats]:
    if labelling.calibration == "none":
        return 1.0, np.zeros(logits.shape[1])
    if labelling.calibration == "prior":
        return 1.0, match_prior(logits, np.asarray(labelling.prior))
    absent = [name for label, name in enumerate(class_names) if not (truth == label).any()]
    if absent:
        raise PipelineError(
            'labelling.calibration = "platt" is fitted on the val split, '
            f'which has no image of class {", ".join(absent)}; set "prior" or "none".'
        )
    scale, bias = fit_platt(logits, truth)
    if scale <= 0:
        raise PipelineError(
            "The labeller's scores rank the val images backwards, and calibration would invert them by the "
            "true labels; put labelling.phrases in the order of classes.names, or, if it is correct, set "
            'labelling.calibration = "none" and decision = "argmax" to inspect the scores.'
        )
    return scale, bias


def fit_platt(logits: Floats, truth: Labels) -> tuple[float, Floats]:
    """Scale and one bias per class by maximum likelihood; for two classes this is Platt's sigmoid (1999).

    Platt's smoothed targets, ``(n_c + 1) / (n_c + classes)`` for the true class, keep the fit finite for
    separable classes.
    """
    from scipy.optimize import minimize

    n, classes = logits.shape
    targets = _smoothed_targets(truth, classes)
    centred = logits - logits.mean(1, keepdims=True)
    unit = max(float(centred.std()), 1e-12)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        """Cross entropy and its gradient, for the scale in units of the logits' std and the free biases."""
        scores = parameters[0] / unit * centred + np.append(0.0, parameters[1:])
        residual = softmax(scores) - targets
        gradient = np.append((residual * centred).sum() / unit, residual[:, 1:].sum(0))
        return float((_log_sum_exp(scores) - (targets * scores).sum(1)).mean()), gradient / n

    fit = minimize(loss, np.append(1.0, np.zeros(classes - 1)), jac=True, method="BFGS")
    return float(fit.x[0] / unit), np.append(0.0, fit.x[1:])


def _smoothed_targets(truth: Labels, classes: int) -> Floats:
    """Platt's target probabilities ``[n, classes]``."""
    counts = np.bincount(truth, minlength=classes)
    true_class = (counts + 1) / (counts + classes)
    other_classes = (1 - true_class) / (classes - 1)
    targets = np.broadcast_to(other_classes[truth][:, None], (len(truth), classes)).copy()
    targets[np.arange(len(truth)), truth] = true_class[truth]
    return targets


def _log_sum_exp(scores: Floats) -> Floats:
    top = scores.max(1, keepdims=True)
    return top[:, 0] + np.log(np.exp(scores - top).sum(1))


def match_prior(logits: Floats, prior: Floats) -> Floats:
    """The bias for which the mean probability of each class is its ``prior``. It uses no labels.

    The conditions are the gradient of a convex function of the bias, so the solution is unique and BFGS finds
    it.
    """
    from scipy.optimize import minimize

    def loss(free: Floats) -> tuple[float, Floats]:
        """The convex function and its gradient, for the biases of all classes but the first."""
        scores = logits + np.append(0.0, free)
        value = _log_sum_exp(scores).mean() - prior[1:] @ free
        return float(value), softmax(scores).mean(0)[1:] - prior[1:]

    fit = minimize(loss, np.zeros(logits.shape[1] - 1), jac=True, method="BFGS")
    return np.append(0.0, fit.x)


def _thresholds(labelling: Labelling, probabilities: Floats, truth: Labels) -> Floats:
    """Thresholds ``[classes]`` of the decision. Only ``balanced_accuracy`` allows more than two classes."""
    if labelling.decision == "balanced_accuracy":  # best at the class frequencies (Bayes)
        frequencies = np.bincount(truth, minlength=probabilities.shape[1]) / len(truth)
        return frequencies / frequencies.sum()
    values = np.unique(probabilities[:, 1])
    cuts = np.append(values[0], (values[1:] + values[:-1]) / 2)
    scores = np.array([_score_cut(labelling, probabilities[:, 1] >= cut, truth == 1) for cut in cuts])
    best = cuts[np.flatnonzero(scores == scores.max())[-1]]  # the highest: the most specific
    return np.array([1 - best, best])


def _score_cut(labelling: Labelling, predicted: NDArray[np.bool_], positive: NDArray[np.bool_]) -> float:
    """The F1 score, or 1 if the sensitivity is reached and 0 if not."""
    if labelling.decision == "f1":
        return float(2 * (predicted & positive).sum() / max(predicted.sum() + positive.sum(), 1))
    return float(predicted[positive].mean() >= labelling.sensitivity)
