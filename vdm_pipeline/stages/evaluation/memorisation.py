"""Memorisation: are images closer to the adapter's training images than to real images it never saw?

A distance alone is not enough: smooth or typical images are close to every image. A copy is closer to the
training images than to held-out ones; a typical image is not.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation.class_matching import rows_with_class_shares, rows_with_equal_counts
from vdm_pipeline.stages.evaluation.estimate import Estimate
from vdm_pipeline.stages.evaluation.metrics.images import mean_with_interval
from vdm_pipeline.stages.evaluation.neighbours import Neighbours
from vdm_pipeline.stages.evaluation.results import CopyFigures, SpaceMemorisation

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

COPY = 1.0
"""Percentile of the held-out images' ratios. An image below it counts as a copy."""
NEAREST = 32
"""Neighbours of an image in which the permutation test looks for the nearest one of each kind.

If a kind is missing, the last of them replaces it.
"""


def memorisation(
    near: Neighbours, train_labels: Labels, held_out_labels: Labels, evaluation: Evaluation
) -> SpaceMemorisation:
    """Measure whether images are closer to training images than to held-out ones.

    Held-out images are left out until their class shares match those of the training images. Otherwise
    images of a class with few held-out images would seem close to the training images.

    - ``share_near_train``: images closer to a training image than 95 % of the held-out images are. New
      images: 0.05.
    - ``share_near_held_out``: the same with the two sets exchanged.
    - ``copied``: images whose ratio of nearest training to nearest held-out distance is below that of 99 %
      of the held-out images. New images, typical or not: 0.01. ``p_copied``: see `copied_p`.
    - ``share_nearest_is_train``, ``ratio``, ``p``: see `ratio_test`.
    """
    kept = rows_with_class_shares(train_labels, held_out_labels, evaluation.seed)
    figures = None
    if len(kept) >= 2:
        tested = _matched_ratio_test(near, train_labels, held_out_labels, evaluation)
        shares = _copy_shares(near.with_held_out(kept), evaluation)
        figures = CopyFigures(**shares, **tested)
    return SpaceMemorisation(len(near.to_train), len(train_labels), len(kept), figures)


def _copy_shares(near: Neighbours, evaluation: Evaluation) -> dict[str, Any]:
    """Shares of near images and copies, with ``p_copied``."""
    ratios, held_out_ratios = near.ratios(), near.held_out_ratios()
    limit = np.percentile(held_out_ratios, COPY)
    copied, below = ratios < limit, int((held_out_ratios < limit).sum())
    flags = {
        "share_near_train": near.to_train.min(1) < near.near_train_distance(),
        "share_near_held_out": near.to_held_out.min(1) < near.near_held_out_distance(),
        "copied": copied,
    }
    shares: dict[str, Any] = {name: _share(values, evaluation) for name, values in flags.items()}
    p_copied = copied_p(int(copied.sum()), len(copied), below, len(held_out_ratios))
    return shares | {"p_copied": p_copied}


def _share(flags: NDArray[np.bool_], evaluation: Evaluation) -> Estimate:
    return Estimate.from_dict(mean_with_interval(flags.astype(float), evaluation.bootstrap, evaluation.seed))


def copied_p(copies: int, n: int, below: int, held_out: int) -> float:
    """Probability that at least ``copies`` of ``n`` new images are below a limit by chance.

    ``below`` of the ``held_out`` images are below the limit.

    If new and held-out images are exchangeable, the number of new images below a rank of the held-out ones
    follows a beta-binomial distribution. It accounts for a limit that rests on few held-out images.
    """
    from scipy.stats import betabinom

    return float(betabinom.sf(copies - 1, n, below + 1, max(held_out - below, 1)))


def _matched_ratio_test(
    near: Neighbours, train_labels: Labels, held_out_labels: Labels, evaluation: Evaluation
) -> dict[str, Any]:
    """`ratio_test` with the same number of training and held-out images in each class."""
    train, held_out = rows_with_equal_counts(train_labels, held_out_labels, evaluation.seed)
    to_train, to_held_out = near.to_train[:, train], near.to_held_out[:, held_out]
    return ratio_test(to_train, to_held_out, evaluation.bootstrap, evaluation.seed)


def ratio_test(to_train: Floats, to_held_out: Floats, resamples: int, seed: int) -> dict[str, Any]:
    """Test whether ``n`` images are closer to training than to held-out images.

    The arguments are distances ``[n, k]`` to ``k`` images of each kind.

    - ``ratio``: geometric mean of nearest training over nearest held-out distance, with a bootstrap
      interval over images.
    - ``share_nearest_is_train``: images whose nearest real image is a training image. New images: 0.5.
    - ``p``: how often a random half of the real images, taken as training images, is as close. The
      permutation is over real images, so a real image that is the neighbour of many generated ones counts
      once.
    """
    both = np.concatenate([to_train, to_held_out], axis=1)
    is_train = np.arange(both.shape[1]) < to_train.shape[1]
    nearest = np.argsort(both, axis=1, kind="stable")[:, :NEAREST]
    logs = np.log(np.maximum(np.take_along_axis(both, nearest, axis=1), 1e-9))

    observed = _log_ratios(logs, is_train[nearest])
    rng = np.random.default_rng(seed)
    permuted = [_log_ratios(logs, rng.permutation(is_train)[nearest]).mean() for _ in range(resamples)]
    as_close = (np.array(permuted) <= observed.mean() + 1e-12).sum()
    nearest_is_train = is_train[nearest[:, 0]].astype(float)
    return {
        "ratio": _geometric_mean(observed, resamples, seed),
        "share_nearest_is_train": Estimate.from_dict(mean_with_interval(nearest_is_train, resamples, seed)),
        "p": float((as_close + 1) / (resamples + 1)),
    }


def _log_ratios(logs: Floats, is_train: NDArray[np.bool_]) -> Floats:
    """Log of nearest training over nearest held-out distance ``[n]``, from sorted logs ``[n, k]``."""
    return _first(logs, is_train) - _first(logs, ~is_train)


def _first(logs: Floats, flags: NDArray[np.bool_]) -> Floats:
    """The first value of each row whose flag is set, or the last one of the row if none is."""
    columns = np.where(flags.any(1), flags.argmax(1), logs.shape[1] - 1)
    return logs[np.arange(len(logs)), columns]


def _geometric_mean(logs: Floats, resamples: int, seed: int) -> Estimate:
    figure = mean_with_interval(logs, resamples, seed)
    low, high = np.exp(figure["ci95"]).tolist()
    return Estimate(float(np.exp(figure["value"])), (low, high))
