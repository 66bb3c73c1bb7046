"""What the colours of the cards mean on this page: derived from the verdicts."""

from collections.abc import Sequence

from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.report.verdicts.verdict import Outcome, Verdict

MEANINGS: dict[Outcome, str] = {
    "unclear": "Yellow, unclear ({}): the figures allow a good and a poor answer. "
    "The card says what would decide it.",
    "mixed": "Yellow, mixed ({}): one measure is good and another is poor. The card says what may help.",
    "bad": "Red ({}): the figures are clearly poor. More images do not change that; "
    "the card says what may help.",
}


def explain_colours(verdicts: Sequence[Verdict], profile: Profile) -> list[str]:
    """Plain sentences on the cards that are not green; none if all are, or were not measured."""
    sentences = []
    for outcome, meaning in MEANINGS.items():
        titles = [verdict.topic.title for verdict in verdicts if verdict.outcome == outcome]
        if titles:
            sentences.append(meaning.format(", ".join(titles)))
    copied = any(verdict.topic.section == "copies" and verdict.outcome == "bad" for verdict in verdicts)
    if sentences and profile.training.base.source == "embedded" and not copied:
        sentences.append(
            "Such cards are expected with this profile: its models are small enough to ship with the "
            "package. They are results, not errors of the run."
        )
    return sentences
