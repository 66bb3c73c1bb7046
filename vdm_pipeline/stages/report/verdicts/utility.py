"""Verdict on utility: whether synthetic images help to train a classifier."""

from collections.abc import Mapping
from typing import Any

from vdm_pipeline.stages.report.formatting import NOT_MEASURED, with_interval
from vdm_pipeline.stages.report.metric_values import has_value, lookup, lower, upper
from vdm_pipeline.stages.report.verdicts.verdict import Outcome, Topic, Verdict

UTILITY = Topic(
    "Utility",
    "utility",
    if_unclear="More test images narrow the intervals, and so do more classifiers "
    "(evaluation.utility_seeds).",
    if_poor="The images may become useful as their realism, class agreement and diversity improve.",
)


def utility(images: Mapping[str, Any]) -> Verdict:
    """The gain from adding LoRA images to real ones; it must exceed that of using each real image twice."""
    over_twice, over_once = (lookup(images, "utility", "gains", key) for key in ("real_twice", "real"))
    if not has_value(over_twice):
        sentence = f"Effect of synthetic images on a classifier: {NOT_MEASURED}."
        return Verdict(UTILITY, "absent", (sentence,))
    outcome: Outcome
    if lower(over_twice) > 0 and (not has_value(over_once) or lower(over_once) > 0):
        outcome, effect = "good", "helps"
    elif upper(over_twice) < 0:
        outcome, effect = "bad", "harms"
    else:
        outcome, effect = "unclear", "has no clear effect"
    synthetic, real = (
        with_interval(lookup(images, "utility", "sets", key, "balanced_accuracy"))
        for key in ("synthetic", "real")
    )
    sentences = (
        f"Adding LoRA images to real training images {effect}: balanced accuracy on real test images changes "
        f"by {with_interval(over_twice)} compared with using each real image twice, and by "
        f"{with_interval(over_once)} compared with the real images once.",
        f"A classifier trained on LoRA images only reaches {synthetic}; trained on as many real images, it "
        f"reaches {real}.",
    )
    return Verdict(UTILITY, outcome, sentences)
