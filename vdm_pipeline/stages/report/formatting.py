"""How figures are written: one way for tables, one for sentences; what is absent says so."""

from collections.abc import Mapping
from typing import Any

NOT_MEASURED = "not measured"


def find(tree: Any, *keys: str) -> Any:
    """What stands at the end of nested keys; None as soon as one is absent."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def number(value: Any) -> str:
    """Three significant digits, trailing zeros kept; counts as they are; ``not measured`` for what is absent."""
    if not isinstance(value, int | float):
        return NOT_MEASURED
    if isinstance(value, int):
        return str(value)
    return f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else short(value)


def short(value: float) -> str:
    """Three significant digits, and all digits before the point: 0.5, 12.3, 1234."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def chance(p: float) -> str:
    """A p-value, two significant digits: no test here resolves more."""
    return f"{p:.2g}"


def interval(metric: Mapping[str, Any] | None) -> str:
    """``value [low, high]``, the value alone if it has no interval, or ``not measured``."""
    if not has_value(metric):
        return NOT_MEASURED
    ci95 = find(metric, "ci95")
    return short(find(metric, "value")) + (" [{}, {}]".format(*map(short, ci95)) if ci95 else "")


def share(metric: Mapping[str, Any] | None) -> str:
    """Like `interval`, in per cent."""
    if not has_value(metric):
        return NOT_MEASURED
    ci95 = find(metric, "ci95")
    return f"{find(metric, 'value'):.0%}" + (f" [{ci95[0]:.0%}, {ci95[1]:.0%}]" if ci95 else "")


def has_value(metric: Mapping[str, Any] | None) -> bool:
    """Whether there is a figure at all."""
    return find(metric, "value") is not None


def bound(metric: Mapping[str, Any], which: int) -> float:
    """An end of the interval, 0 or 1; the value where it has none."""
    return (metric.get("ci95") or (metric["value"],) * 2)[which]


def below(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the whole interval of ``one`` lies below that of ``other``."""
    return bound(one, 1) < bound(other, 0)
