"""Verdicts on realism: distance to real images, the requested class, and sharpness."""

from collections.abc import Mapping, Sequence
from typing import Any

from vdm_pipeline.stages.report.formatting import (
    NOT_MEASURED,
    capitalized,
    p_value,
    percent,
    with_interval,
)
from vdm_pipeline.stages.report.metric_values import (
    Metric,
    has_value,
    is_below,
    lookup,
    lower,
    set_metric,
    upper,
)
from vdm_pipeline.stages.report.titles import OVERALL, SPACE_TITLES
from vdm_pipeline.stages.report.verdicts.verdict import (
    Outcome,
    Statement,
    Topic,
    Verdict,
    combine,
)

REALISM = Topic(
    "Realism vs. baseline",
    "images",
    if_unclear="More generated images (generation.per_class) and more val images narrow the intervals.",
    if_poor="Other [training] settings, a stronger base model (training.base) or captions with fewer errors "
    "may help.",
)
CONFIDENCE = Topic(
    "Judge's confidence vs. baseline",
    "pairs",
    if_unclear="More pairs of images (generation.per_class) narrow the interval.",
    if_poor="More training steps (training.max_train_steps) or captions with fewer errors may help.",
)
CLASS_AGREEMENT = Topic(
    "Agreement with the requested class",
    "images",
    if_unclear="More generated images (generation.per_class) narrow the intervals.",
    if_poor="More training steps (training.max_train_steps) or captions with fewer errors may help.",
)
SHARPNESS = Topic(
    "Sharpness vs. real images",
    "images",
    if_unclear="More generated images (generation.per_class) narrow the intervals.",
    if_poor="An arm without LCM (generation.extra) shows whether LCM is the cause; a stronger base "
    "model (training.base) may help.",
)
ALPHA = 0.05
"""A paired difference counts if p is below this and its interval excludes 0."""
TOLERANCE = 0.2
"""An interval within this share of the real images' value is close to it."""


def distance(images: Mapping[str, Any]) -> Verdict:
    """KID with and without the LoRA, in both spaces, and that of unseen real images."""
    statements = [_distance(images, space, title) for space, title in SPACE_TITLES.items()]
    return combine(REALISM, statements)


def _distance(images: Mapping[str, Any], space: str, title: str) -> Statement:
    kids = {arm: set_metric(images.get(arm), OVERALL, space, "kid") for arm in ("lora", "baseline", "real")}
    lora, baseline, real = kids.values()
    if not has_value(lora) or not has_value(baseline):
        return Statement("absent", f"KID in the {title}: {NOT_MEASURED}.")
    outcome: Outcome
    if is_below(lora, baseline):
        outcome, change = "good", "closer to real images"
    elif is_below(baseline, lora):
        outcome, change = "bad", "farther from real images"
    else:
        outcome, change = "unclear", "not clearly closer or farther"
    return Statement(
        outcome,
        f"In the {title}, the LoRA changes KID from {with_interval(baseline)} to {with_interval(lora)}: "
        f"{change}. Unseen real images score {with_interval(real)}{_against_real(lora, real)}.",
    )


def _against_real(lora: Metric, real: Metric | None) -> str:
    if real is None or not has_value(real):
        return ""
    return f"; the LoRA images are {'clearly' if is_below(real, lora) else 'not clearly'} worse"


def paired(images: Mapping[str, Any]) -> Verdict:
    """The judge's confidence at the same prompts and seeds, with and without the LoRA.

    Sharpness has no better direction, nor has the distance to the nearest real image: typical images lie
    near many.
    """
    return combine(CONFIDENCE, [_paired_confidence(images)])


def _paired_confidence(images: Mapping[str, Any]) -> Statement:
    metric = lookup(images, "paired", "label_confidence", OVERALL)
    subject = "the judge's confidence in the requested class"
    p = lookup(metric, "p")
    if not has_value(metric) or p is None:
        return Statement("absent", f"Effect of the LoRA on {subject}: {NOT_MEASURED}.")
    figures = f"difference {with_interval(metric)}, p = {p_value(p)}, {metric.get('n', '?')} pairs"
    if p >= ALPHA or lower(metric) <= 0 <= upper(metric):
        return Statement("unclear", f"The LoRA does not clearly change {subject}: {figures}.")
    if upper(metric) < 0:
        return Statement("bad", f"The LoRA lowers {subject}: {figures}.")
    return Statement("good", f"The LoRA raises {subject}: {figures}.")


def class_agreement(images: Mapping[str, Any], class_names: Sequence[str]) -> Verdict:
    """The share of images in which the judge sees the requested class."""
    statements = [_class_agreement(images, name) for name in class_names]
    return combine(CLASS_AGREEMENT, statements)


def _class_agreement(images: Mapping[str, Any], name: str) -> Statement:
    lora, baseline, real = _by_arm(images, name, "label_agreement")
    if not has_value(lora) or not has_value(baseline):
        return Statement("absent", f"Class {name}, as the judge sees it: {NOT_MEASURED}.")
    outcome: Outcome = "good"
    remark = ""
    if is_below(lora, baseline):
        outcome, remark = "bad", " This is worse than without the LoRA."
    elif upper(lora) < 0.5:
        outcome, remark = "bad", " Most images do not show the requested class."
    elif lower(lora) <= 0.5:
        outcome, remark = "unclear", " It is not clear whether most images show the requested class."
    return Statement(
        outcome,
        f"Class {name}: the judge recognises it in {percent(lora)} of the LoRA images, {percent(baseline)} "
        f"of the baseline images and {percent(real)} of real {name} images.{remark}",
    )


def sharpness(images: Mapping[str, Any], class_names: Sequence[str]) -> Verdict:
    """Blur or noise per class; over all classes, opposite differences would cancel out."""
    statements = [_sharpness(images, name) for name in class_names]
    return combine(SHARPNESS, statements)


def _sharpness(images: Mapping[str, Any], name: str) -> Statement:
    lora, baseline, real = _by_arm(images, name, "sharpness")
    if not has_value(lora) or not has_value(real):
        return Statement("absent", f"Sharpness of {name} images: {NOT_MEASURED}.")
    outcome: Outcome
    if is_below(lora, real):
        outcome, comparison = "bad", "are blurrier than real ones"
    elif is_below(real, lora):
        outcome, comparison = "bad", "are sharper or noisier than real ones"
    else:
        outcome, comparison = (
            "good" if is_close(lora, real) else "unclear",
            "do not clearly differ from real ones",
        )
    return Statement(
        outcome,
        f"{capitalized(name)} LoRA images {comparison}: sharpness {with_interval(lora)} against "
        f"{with_interval(real)}; baseline {with_interval(baseline)}.",
    )


def is_close(metric: Metric, real: Metric) -> bool:
    """Whether the whole interval of ``metric`` lies within `TOLERANCE` of the real images' value."""
    margin = TOLERANCE * abs(real["value"])
    return real["value"] - margin <= lower(metric) and upper(metric) <= real["value"] + margin


def _by_arm(images: Mapping[str, Any], group: str, key: str) -> tuple[Any, Any, Any]:
    """The metric of the LoRA, the baseline and real images."""
    lora, baseline, real = (lookup(images, arm, group, key) for arm in ("lora", "baseline", "real"))
    return lora, baseline, real
