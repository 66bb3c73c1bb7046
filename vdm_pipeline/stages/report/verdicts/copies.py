"""Verdicts on copies of training images: whether there are any, and whether the images may be shared."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vdm_pipeline.stages.evaluation.arms import LORA
from vdm_pipeline.stages.evaluation.check_outcomes import find_copies, is_sensitive, too_many_copies
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
from vdm_pipeline.stages.report.verdicts.verdict import Outcome, Statement, Verdict, combine

SHARING: dict[str, tuple[str, Outcome]] = {
    "none": ("yes", "good"),
    "some": ("no", "bad"),
    "unclear": ("not clear", "unclear"),
}
"""Answer and outcome by the state of `find_copies`."""
MEANING = (
    "“Safe to share” means only that no single image is a copy of a training image by its pixels, and that "
    "near copies, searched for in two feature spaces, stay within the limit checks.max_copied; it does not "
    "cover privacy in general, and the licences below still apply."
)
ALPHA = 0.01
"""The images lean towards training images if the distance ratio's p is below this."""
SUMMARIES: dict[Outcome, str] = {
    "bad": "There are more copies of training images than chance explains",
    "unclear": "The images may be too close to training images",
    "good": "There are no more near copies than chance explains",
}


def safe_to_share(images: Mapping[str, Any], max_copied: float) -> Verdict:
    """Whether there are copies of training images, by the same rule as the check of image_metrics."""
    try:
        result = find_copies(images["memorization"], max_copied)
    except (KeyError, TypeError, ValueError):
        sentence = f"Copies of training images: {NOT_MEASURED}."
        return Verdict(f"Safe to share: {NOT_MEASURED}", "absent", (sentence,), "copies")
    answer, outcome = SHARING[result.state]
    return Verdict(
        f"Safe to share: {answer}", outcome, (f"{capitalized(result.sentence)}.", MEANING), "copies"
    )


def copies(images: Mapping[str, Any], max_copied: float) -> Verdict:
    """How close LoRA images are to training images, compared with real images that were not trained on.

    Copies in one space, or one single copy, are enough for a bad outcome.
    """
    statements = [_copies(images, space, title, max_copied) for space, title in SPACE_TITLES.items()]
    statements.append(_single_copies(images))
    verdict = combine("LoRA images are new", "copies", statements)
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
        return Statement("bad", f"{len(found)} LoRA images are single copies, the closest one is {found[0]}.")
    sentence = f"No LoRA image is a copy by its pixels: no distance ratio is below {number(single['limit'])}."
    return Statement("good" if is_sensitive(single) else "unclear", sentence)


def _copies_outcome(lora: Mapping[str, Any], max_copied: float) -> Outcome:
    copied = lora["copied"]
    if too_many_copies(lora, max_copied):
        return "bad"
    if lower(copied) > 0 or copied["value"] > max_copied or lora["p"] < ALPHA:
        return "unclear"
    return "good"
