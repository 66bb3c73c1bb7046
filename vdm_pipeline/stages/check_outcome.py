"""The result of an asset check, without Dagster."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CheckOutcome:
    """Whether the check passed, one sentence, and the figures behind it."""

    passed: bool
    sentence: str
    figures: dict[str, Any] = field(default_factory=dict)
