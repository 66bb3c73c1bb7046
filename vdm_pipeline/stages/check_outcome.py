"""What a check of an asset returns."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CheckOutcome:
    """What a check found: whether it passed, one sentence, and figures."""

    passed: bool
    sentence: str
    figures: dict[str, Any] = field(default_factory=dict)
