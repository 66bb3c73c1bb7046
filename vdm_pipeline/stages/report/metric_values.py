"""Access to the figures of the metric files, any of which may be missing."""

from collections.abc import Mapping
from typing import Any

from vdm_pipeline.stages.evaluation.spaces import LABELLER

Metric = Mapping[str, Any]
"""``value`` and, if it has an interval, ``ci95``: its lower and upper end."""


def lookup(tree: Any, *keys: str) -> Any:
    """The value under nested keys, or None if any key is missing."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def set_metric(arm: Any, group: str, space: str, key: str) -> Any:
    """A metric of a whole set. Metrics of the labeller space are not nested under the space's name."""
    return lookup(arm, group, key) if space == LABELLER else lookup(arm, group, space, key)


def has_value(metric: Metric | None) -> bool:
    """Whether the metric was measured."""
    return lookup(metric, "value") is not None


def lower(metric: Metric) -> float:
    """Lower end of the interval, or the value if there is no interval."""
    return metric["ci95"][0] if metric.get("ci95") else metric["value"]


def upper(metric: Metric) -> float:
    """Upper end of the interval, or the value if there is no interval."""
    return metric["ci95"][1] if metric.get("ci95") else metric["value"]


def is_below(first: Metric, second: Metric) -> bool:
    """Whether the whole interval of ``first`` lies below that of ``second``."""
    return upper(first) < lower(second)
