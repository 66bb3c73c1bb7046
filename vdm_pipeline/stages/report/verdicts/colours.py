"""What the colours of the cards mean on this page, and what changes them: derived from the verdicts."""

from collections.abc import Sequence

from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.report.verdicts.verdict import Outcome, Verdict


def explain_colours(verdicts: Sequence[Verdict], profile: Profile) -> list[str]:
    """Plain sentences on the cards that are not green; none if all are, or were not measured."""
    topics: dict[Outcome, str] = {}
    for outcome in ("unclear", "mixed", "bad"):
        named = [verdict.topic.split(":")[0] for verdict in verdicts if verdict.outcome == outcome]
        if named:
            topics[outcome] = ", ".join(named)
    meanings = {
        "unclear": "Yellow, not clear ({}): the 95% interval allows a good and a poor answer. "
        "More images decide it: raise generation.per_class.",
        "mixed": "Yellow, mixed ({}): one measure is good and another is poor. "
        "The card turns green when all its measures are good.",
        "bad": "Red, poor ({}): the card's figures are clearly poor. More images do not change that; "
        "a stronger base model (training.base), other [training] settings or better labels may.",
    }
    sentences = [meanings[outcome].format(names) for outcome, names in topics.items()]
    copied = any(verdict.section == "copies" and verdict.outcome == "bad" for verdict in verdicts)
    if sentences and profile.training.base.source == "embedded" and not copied:
        sentences.append(
            "Such cards are expected with this profile: its models are small enough to ship with the package "
            "and to train in minutes on a CPU. They are results, not errors of the run."
        )
    return sentences
