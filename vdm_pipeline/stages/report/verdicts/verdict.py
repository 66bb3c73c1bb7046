"""A verdict: a topic, how it came out, and sentences with their figures."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["good", "mixed", "bad", "open", "absent"]
"""``mixed``: good in one respect and bad in another; ``open``: measured, and the intervals do not tell; ``absent``: not measured."""


@dataclass(frozen=True)
class Verdict:
    """``place`` is the section of the page that holds the figures."""

    topic: str
    outcome: Outcome
    sentences: tuple[str, ...]
    place: str


def together(outcomes: Iterable[Outcome]) -> Outcome:
    """Good only if all that was measured is."""
    there = {outcome for outcome in outcomes if outcome != "absent"}
    if not there:
        return "absent"
    if {"bad", "good"} <= there or "mixed" in there:
        return "mixed"
    return "bad" if "bad" in there else "open" if "open" in there else "good"


def gathered(topic: str, place: str, parts: Iterable[tuple[Outcome, str]]) -> Verdict:
    """One verdict from several sentences with an outcome each; the worst news come first."""
    parts = sorted(parts, key=lambda part: ("bad", "mixed", "open", "good", "absent").index(part[0]))
    return Verdict(
        topic, together(outcome for outcome, _ in parts), tuple(sentence for _, sentence in parts), place
    )
