"""Verdicts on copies of training images: whether any were found, and whether the LoRA's images are new."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vdm_pipeline.stages.evaluation.arms import LORA
from vdm_pipeline.stages.evaluation.check_outcomes import (
    describe_sensitivity,
    find_copies,
    is_sensitive,
    too_many_copies,
)
from vdm_pipeline.stages.report.formatting import (
    NOT_MEASURED,
    capitalized,
    number,
    p_value,
    percent,
    with_interval,
)
from vdm_pipeline.stages.report.metric_values import has_value, lookup, lower
from vdm_pipeline.stages.report.titles import SPACE_TITLES
from vdm_pipeline.stages.report.verdicts.verdict import Outcome, Statement, Topic, Verdict, combine

FEWER_COPIES = (
    "Fewer training steps (training.max_train_steps) or more training images (subset.per_class) may help."
)
COPIES = Topic(
    "Copies of training images",
    "copies",
    if_unclear="",  # the sentence of `find_copies` says what is needed
    if_poor=FEWER_COPIES,
)
NOVELTY = Topic(
    "Novelty",
    "copies",
    if_unclear="More generated images do not decide it: compare with “real (control)” in the section on "
    "copies, and look at the closest pairs.",
    if_poor=FEWER_COPIES,
)
ANSWERS: dict[str, tuple[str, Outcome]] = {
    "none": ("none found", "good"),
    "some": ("found", "bad"),
    "unclear": ("cannot tell", "unclear"),
}
"""Answer and outcome by the state of `find_copies`."""
MISSED_COPIES = "A single copy that is shifted, rotated, cropped or very noisy is often missed."
SCOPE = (
    "The search covers single copies by their pixels, and near copies in two feature spaces if their share "
    f"exceeds checks.max_copied. {MISSED_COPIES} “None found” is not a proof of privacy, and the licences "
    "below still apply."
)
ALPHA = 0.01
"""The images lean towards training images if the distance ratio's p is below this."""
SUMMARIES: dict[Outcome, str] = {
    "bad": "There are more copies of training images than chance explains",
    "unclear": "The images may be too close to training images",
    "good": "There are no more near copies than chance explains",
}


def copies_found(images: Mapping[str, Any], max_copied: float) -> Verdict:
    """Whether there are copies of training images, by the same rule as the check of image_metrics."""
    try:
        result = find_copies(images["memorization"], max_copied)
    except (KeyError, TypeError, ValueError):
        return Verdict(COPIES, "absent", (f"Copies of training images: {NOT_MEASURED}.",))
    answer, outcome = ANSWERS[result.state]
    return Verdict(COPIES, outcome, (f"{capitalized(result.sentence)}.", SCOPE), answer)


def novelty(images: Mapping[str, Any], max_copied: float) -> Verdict:
    """How close LoRA images are to training images, compared with real images that were not trained on.

    Copies in one space, or one single copy, are enough for a bad outcome.
    """
    statements = [_copies(images, space, title, max_copied) for space, title in SPACE_TITLES.items()]
    statements.append(_single_copies(images))
    verdict = combine(NOVELTY, statements)
    any_bad = "bad" in {statement.outcome for statement in statements}
    return replace(verdict, outcome="bad") if any_bad else verdict


def _copies(images: Mapping[str, Any], space: str, title: str, max_copied: float) -> Statement:
    lora, real = (lookup(images, "memorization", "arms", arm, space) for arm in ("lora", "real"))
    p = lookup(lora, "p")
    if not has_value(lookup(lora, "copied")) or p is None or lookup(lora, "p_copied") is None:
        return Statement("absent", f"Copies of training images in the {title}: {NOT_MEASURED}.")
    outcome = _copies_outcome(lora, max_copied)
    near = {
        (name, key): percent(lookup(arm, f"share_near_{key}"))
        for name, arm in (("lora", lora), ("real", real))
        for key in ("train", "held_out")
    }
    return Statement(
        outcome,
        f"{SUMMARIES[outcome]}, in the {title}: {near['lora', 'train']} of the LoRA images lie near a "
        f"training image and {near['lora', 'held_out']} near a held-out one. For real images never used for "
        f"training, it is {near['real', 'train']} and {near['real', 'held_out']}. "
        f"Distance ratio, training / held-out: {with_interval(lookup(lora, 'ratio'))}, p = {p_value(p)}.",
    )


def _single_copies(images: Mapping[str, Any]) -> Statement:
    single = lookup(images, "memorization", "single_copies")
    if lookup(single, "limit") is None:
        return Statement("absent", f"Single copies of training images: {NOT_MEASURED}.")
    found = [copy["file_name"] for copy in single["found"] if copy["arm"] == LORA]
    if found:
        sentence = f"Single copies among the LoRA images: {len(found)}, the closest is {found[0]}."
        return Statement("bad", sentence)
    if not is_sensitive(single):
        return Statement("unclear", f"{capitalized(describe_sensitivity(single))}.")
    sentence = f"No LoRA image is a copy by its pixels: no distance ratio is below {number(single['limit'])}."
    return Statement("good", sentence)


def _copies_outcome(lora: Mapping[str, Any], max_copied: float) -> Outcome:
    copied = lora["copied"]
    if too_many_copies(lora, max_copied):
        return "bad"
    if lower(copied) > 0 or copied["value"] > max_copied or lora["p"] < ALPHA:
        return "unclear"
    return "good"
