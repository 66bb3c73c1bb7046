"""A verdict: a topic, its outcome, and sentences with figures."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Outcome = Literal["bad", "mixed", "unclear", "good", "absent"]
"""``mixed``: partly good, partly bad. ``unclear``: the intervals do not decide. ``absent``: not measured."""
WORST_FIRST: tuple[Outcome, ...] = ("bad", "mixed", "unclear", "good", "absent")


class Statement(NamedTuple):
    """One sentence of a verdict, with its own outcome."""

    outcome: Outcome
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """``section`` is the id of the page's section with the figures."""

    topic: str
    outcome: Outcome
    sentences: tuple[str, ...]
    section: str


def combined_outcome(outcomes: Iterable[Outcome]) -> Outcome:
    """``good`` only if everything that was measured is good."""
    measured = {outcome for outcome in outcomes if outcome != "absent"}
    if not measured:
        return "absent"
    if {"bad", "good"} <= measured or "mixed" in measured:
        return "mixed"
    if "bad" in measured:
        return "bad"
    return "unclear" if "unclear" in measured else "good"


def combine(topic: str, section: str, statements: Iterable[Statement]) -> Verdict:
    """One verdict from several statements, the worst first."""
    ordered = sorted(statements, key=lambda statement: WORST_FIRST.index(statement.outcome))
    outcome = combined_outcome(statement.outcome for statement in ordered)
    return Verdict(topic, outcome, tuple(statement.sentence for statement in ordered), section)
