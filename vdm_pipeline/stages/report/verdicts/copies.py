"""Are the images new, may they be shared, and do they help?"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vdm_pipeline.stages.evaluation.check_outcomes import copies as copies_found
from vdm_pipeline.stages.evaluation.check_outcomes import copies_too_many
from vdm_pipeline.stages.report.verdicts.verdict import Outcome, Verdict, gathered
from vdm_pipeline.stages.report.wording import NOT_MEASURED, bound, chance, find, has_value, interval, share

SPACES = {"labeller": "labeller's space", "independent": "independent space"}
SHARING: dict[str, tuple[str, Outcome]] = {
    "none": ("yes", "good"),
    "some": ("no", "bad"),
    "unclear": ("not clear", "open"),
}
CAVEAT = "This looks for near copies of training images; it proves no anonymity, and the licences below still bind."
ALPHA = 0.01


def safe_to_share(images: Mapping[str, Any], max_copied: float) -> Verdict:
    """Whether the images are copies of what the adapter was trained on, as the check of image_metrics has it."""
    try:
        found = copies_found(images["memorization"], max_copied)
    except (KeyError, TypeError, ValueError):
        return Verdict(
            f"Safe to share: {NOT_MEASURED}",
            "absent",
            (f"Whether images copy training images: {NOT_MEASURED}.",),
            "copies",
        )
    says, outcome = SHARING[found.state]
    return Verdict(
        f"Safe to share: {says}",
        outcome,
        (f"{found.sentence[0].upper()}{found.sentence[1:]}.", CAVEAT),
        "copies",
    )


def copies(images: Mapping[str, Any], max_copied: float) -> Verdict:
    """How near the LoRA's images are to training images, beside real images that trained nothing; a copy in one space is a copy."""
    found = [_copies(images, space, title, max_copied) for space, title in SPACES.items()]
    verdict = gathered("The LoRA's images are new", "copies", found)
    return replace(verdict, outcome="bad") if "bad" in {outcome for outcome, _ in found} else verdict


def _copies(images: Mapping[str, Any], space: str, title: str, max_copied: float) -> tuple[Outcome, str]:
    lora, real = (find(images, "memorization", "arms", arm, space) for arm in ("lora", "real"))
    copied, p = find(lora, "copied"), find(lora, "p")
    if not has_value(copied) or p is None or find(lora, "p_copied") is None:
        return "absent", f"Copies of training images, in the {title}: {NOT_MEASURED}."
    too_many = copies_too_many(lora, max_copied)
    outcome: Outcome = (
        "bad"
        if too_many
        else "open"
        if bound(copied, 0) > 0 or copied["value"] > max_copied or p < ALPHA
        else "good"
    )
    says = {
        "bad": "There are more copies of training images than chance explains",
        "open": "The images lean towards the training images",
        "good": "No more near copies than chance explains",
    }[outcome]
    return outcome, (
        f"{says}, in the {title}: {share(find(lora, 'share_near_train'))} lie near a training image and "
        f"{share(find(lora, 'share_near_held_out'))} near a held-out one; of real images that were never trained on "
        f"{share(find(real, 'share_near_train'))} and {share(find(real, 'share_near_held_out'))}. "
        f"Distance to training over held-out images {interval(find(lora, 'ratio'))}, p = {chance(p)}."
    )


def useful(images: Mapping[str, Any]) -> Verdict:
    """What synthetic images add for a classifier, beyond what repeating the real ones does."""
    gain, alone = (find(images, "utility", "gains", key) for key in ("real_twice", "real"))
    if not has_value(gain):
        return Verdict(
            "Useful for training",
            "absent",
            (f"Whether images help to train a classifier: {NOT_MEASURED}.",),
            "utility",
        )
    both = [bound(gain, 0) > 0, not has_value(alone) or bound(alone, 0) > 0]
    outcome: Outcome = "good" if all(both) else "bad" if bound(gain, 1) < 0 else "open"
    says = {"good": "help", "bad": "harm", "open": "neither clearly help nor harm"}[outcome]
    sets = {
        key: interval(find(images, "utility", "sets", key, "balanced_accuracy"))
        for key in ("synthetic", "real")
    }
    return Verdict(
        "Useful for training",
        outcome,
        (
            f"Added to real images, those with the LoRA {says}: balanced accuracy on real test images changes by {interval(gain)} "
            f"against the same real images twice, and by {interval(alone)} against the real images once.",
            f"Trained on images with the LoRA alone, the classifier has {sets['synthetic']}; on as many real ones {sets['real']}.",
        ),
        "utility",
    )
