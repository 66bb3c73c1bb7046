"""Verdict on diversity: fewer kinds of images, gaps, or images that are too similar."""

from collections.abc import Mapping
from typing import Any

from scipy.stats import binomtest

from vdm_pipeline.stages.evaluation.spaces import LABELLER
from vdm_pipeline.stages.report.formatting import NOT_MEASURED, capitalized, with_interval
from vdm_pipeline.stages.report.metric_values import has_value, is_below, lookup, set_metric
from vdm_pipeline.stages.report.titles import OVERALL, SPACE_TITLES
from vdm_pipeline.stages.report.verdicts.realism import is_close
from vdm_pipeline.stages.report.verdicts.verdict import (
    Outcome,
    Statement,
    Topic,
    Verdict,
    combine,
)

DIVERSITY = Topic(
    "Diversity vs. real images",
    "images",
    if_unclear="More generated images (generation.per_class) narrow the intervals.",
    if_poor="More training images (subset.per_class) may help. An arm without LCM (generation.extra) shows "
    "whether LCM is the cause.",
)
EXPECTED_NEAR_DUPLICATES = 0.05
"""Share of near duplicates among images that are as diverse as real ones."""
ALPHA = 0.01
"""More near duplicates are not chance if p is below this."""


def diversity(images: Mapping[str, Any]) -> Verdict:
    """Vendi score, coverage, MS-SSIM and near duplicates, compared with as many real images."""
    statements = [
        _set_diversity(images, key, space, f"{name} in the {title}")
        for key, name in (("diversity", "Vendi score"), ("coverage", "coverage"))
        for space, title in SPACE_TITLES.items()
    ]
    statements.append(
        _set_diversity(images, "ms_ssim", LABELLER, "MS-SSIM within a class", lower_is_diverse=True)
    )
    statements += [_near_duplicates(images, space, title) for space, title in SPACE_TITLES.items()]
    return combine(DIVERSITY, statements)


def _set_diversity(
    images: Mapping[str, Any], key: str, space: str, name: str, *, lower_is_diverse: bool = False
) -> Statement:
    lora, real = (set_metric(images.get(arm), OVERALL, space, key) for arm in ("lora", "real"))
    if not has_value(lora) or not has_value(real):
        return Statement("absent", f"{capitalized(name)}: {NOT_MEASURED}.")
    less, more = is_below(lora, real), is_below(real, lora)
    if lower_is_diverse:
        less, more = more, less
    outcome: Outcome
    if less:
        outcome, comparison = "bad", "less diverse"
    elif more:
        outcome, comparison = "good", "more diverse"
    else:
        outcome, comparison = "good" if is_close(lora, real) else "unclear", "no clear difference"
    return Statement(
        outcome,
        f"{capitalized(name)}: {with_interval(lora)} for LoRA images, {with_interval(real)} for as many real "
        f"images: {comparison}.",
    )


def _near_duplicates(images: Mapping[str, Any], space: str, title: str) -> Statement:
    """Images that lie closer to another generated one than 95% of real images lie to another real one."""
    share = lookup(images, "memorization", "arms", "lora", "duplicates", space)
    n = lookup(images, "lora", OVERALL, "n")
    if share is None or not n:
        return Statement("absent", f"Near duplicates in the {title}: {NOT_MEASURED}.")
    p = binomtest(round(share * n), n, EXPECTED_NEAR_DUPLICATES, alternative="greater").pvalue
    figures = f"{share:.0%} of the LoRA images, {EXPECTED_NEAR_DUPLICATES:.0%} expected"
    if p < ALPHA:
        return Statement("bad", f"Near duplicates in the {title}: {figures}; the images are too similar.")
    return Statement("good", f"Near duplicates in the {title}: {figures}.")
