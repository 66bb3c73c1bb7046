"""A verdict: a topic, its outcome, and sentences with figures."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from vdm_pipeline.stages.report.formatting import NOT_MEASURED

Outcome = Literal["bad", "mixed", "unclear", "good", "absent"]
"""``mixed``: partly good, partly bad. ``unclear``: the intervals do not decide. ``absent``: not measured."""
WORST_FIRST: tuple[Outcome, ...] = ("bad", "mixed", "unclear", "good", "absent")
TAGS: dict[Outcome, str] = {
    "bad": "poor",
    "mixed": "mixed",
    "unclear": "unclear",
    "good": "good",
    "absent": NOT_MEASURED,
}


class Topic(NamedTuple):
    """What a card is about; ``section`` is the id of the page's section with the figures.

    ``if_unclear`` is what would decide the outcome, and ``if_poor`` is what may improve it.
    """

    title: str
    section: str
    if_unclear: str
    if_poor: str


class Statement(NamedTuple):
    """One sentence of a verdict, with its own outcome."""

    outcome: Outcome
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """The content of a card; ``answer`` replaces the outcome's tag."""

    topic: Topic
    outcome: Outcome
    sentences: tuple[str, ...]
    answer: str = ""

    @property
    def tag(self) -> str:
        """The words beside the title."""
        return self.answer or TAGS[self.outcome]

    @property
    def hint(self) -> str:
        """What the reader can do about the outcome; empty if nothing."""
        if self.outcome == "unclear":
            return self.topic.if_unclear
        return self.topic.if_poor if self.outcome in ("bad", "mixed") else ""


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


def combine(topic: Topic, statements: Iterable[Statement]) -> Verdict:
    """One verdict from several statements, the worst first."""
    ordered = sorted(statements, key=lambda statement: WORST_FIRST.index(statement.outcome))
    outcome = combined_outcome(statement.outcome for statement in ordered)
    return Verdict(topic, outcome, tuple(statement.sentence for statement in ordered))
