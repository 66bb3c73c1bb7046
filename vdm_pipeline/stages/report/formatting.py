"""Text for figures: numbers in tables, values with intervals in sentences, and a text for missing values."""

from collections.abc import Callable, Mapping
from typing import Any

from vdm_pipeline.stages.report.metric_values import has_value, lookup

NOT_MEASURED = "not measured"


def number(value: Any) -> str:
    """Three significant digits with trailing zeros; integers unchanged; ``not measured`` without a value."""
    if not isinstance(value, int | float):
        return NOT_MEASURED
    if isinstance(value, int):
        return str(value)
    return f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else short_number(value)


def short_number(value: float) -> str:
    """Three significant digits, but every digit before the decimal point: 0.5, 12.3, 1234."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def p_value(p: float) -> str:
    """Two significant digits: no test here resolves more."""
    return f"{p:.2g}"


def with_interval(metric: Mapping[str, Any] | None) -> str:
    """``value [low, high]``, only the value if there is no interval, or ``not measured``."""
    return _with_interval(metric, short_number)


def percent(metric: Mapping[str, Any] | None) -> str:
    """Like `with_interval`, in per cent."""
    return _with_interval(metric, "{:.0%}".format)


def proportion(value: Any) -> str:
    """In per cent; ``not measured`` without a value."""
    return f"{value:.0%}" if isinstance(value, int | float) else NOT_MEASURED


def capitalized(text: str) -> str:
    """The text with a capital first letter; the rest is unchanged."""
    return text[:1].upper() + text[1:]


def _with_interval(metric: Mapping[str, Any] | None, text: Callable[[float], str]) -> str:
    if not has_value(metric):
        return NOT_MEASURED
    value, interval = text(lookup(metric, "value")), lookup(metric, "ci95")
    if not interval:
        return value
    low, high = interval
    return f"{value} [{text(low)}, {text(high)}]"
