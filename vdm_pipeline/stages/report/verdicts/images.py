"""Are the images nearer to real ones, of the class that was asked for, as diverse and as sharp? No claim beyond an interval."""

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import binomtest

from vdm_pipeline.stages.report.verdicts.verdict import Outcome, Verdict, gathered
from vdm_pipeline.stages.report.wording import (
    NOT_MEASURED,
    below,
    bound,
    chance,
    find,
    has_value,
    interval,
    share,
)

SPACES = {"labeller": "In the labeller's space", "independent": "In the independent space"}
ALPHA = 0.05
"""A paired difference counts below this p, if its interval leaves 0 out as well."""
PAIRS = (("label_confidence", "higher", "the judge's confidence in the class that was asked for"),)
"""What is better the one way; sharpness is not, nor the distance to the nearest real image, as typical images lie near to many."""
CLOSE = 0.2
"""Share of the real images' value within which an interval must lie to be called close to it; wider ones tell nothing."""
ALIKE, ALIKE_SURE = 0.05, 0.01
"""Share of images that lie alike if they are as diverse as real ones, and the p below which more is not chance."""
SPREADS = (
    ("diversity", "labeller", "higher", "Vendi score in the labeller's space"),
    ("diversity", "independent", "higher", "Vendi score in the independent space"),
    ("coverage", "labeller", "higher", "coverage in the labeller's space"),
    ("coverage", "independent", "higher", "coverage in the independent space"),
    ("ms_ssim", "labeller", "lower", "MS-SSIM between images of a class"),
)


def distance(images: Mapping[str, Any]) -> Verdict:
    """KID with and without the LoRA, in both spaces, beside the floor."""
    return gathered(
        "Closer to real images",
        "images",
        [_distance(images, space, title) for space, title in SPACES.items()],
    )


def _distance(images: Mapping[str, Any], space: str, title: str) -> tuple[Outcome, str]:
    lora, baseline, real = (_of_set(images, arm, space, "kid") for arm in ("lora", "baseline", "real"))
    if not has_value(lora) or not has_value(baseline):
        return "absent", f"{title}: {NOT_MEASURED}."
    outcome, says = "open", "that is not clearly closer to or farther from real images"
    if below(lora, baseline):
        outcome, says = "good", "closer to real images"
    elif below(baseline, lora):
        outcome, says = "bad", "farther from real images"
    told = f"{title} the LoRA moved KID from {interval(baseline)} to {interval(lora)}: {says}; "
    return outcome, told + f"the real-against-real floor is {interval(real)}{_against_floor(lora, real)}."  # type: ignore[return-value]


def _against_floor(lora: Mapping[str, Any], real: Mapping[str, Any] | None) -> str:
    if real is None or not has_value(real):
        return ""
    return (
        ", which the images do not reach"
        if below(real, lora)
        else ", from which the images are not told apart"
    )


def paired(images: Mapping[str, Any]) -> Verdict:
    """Image by image: what the LoRA changed at the same prompts and seeds."""
    return gathered("Pair by pair", "pairs", [_paired(images, *what) for what in PAIRS])


def _paired(images: Mapping[str, Any], key: str, wanted: str, what: str) -> tuple[Outcome, str]:
    found = find(images, "paired", key, "overall")
    if not has_value(found) or find(found, "p") is None:
        return "absent", f"How the LoRA changes {what}: {NOT_MEASURED}."
    low, high = bound(found, 0), bound(found, 1)
    figures = f"{interval(found)}, p = {chance(found['p'])}, {found.get('n', '?')} pairs"
    if found["p"] >= ALPHA or low <= 0 <= high:
        return "open", f"The LoRA does not clearly change {what}: {figures}."
    went = "lower" if high < 0 else "higher"
    return ("good" if went == wanted else "bad"), f"With the LoRA {what} is {went}: {figures}."


def agreement(images: Mapping[str, Any], class_names: Sequence[str]) -> Verdict:
    """What the judge sees in the images, by the class that was asked for."""
    return gathered("Shows what was asked for", "images", [_agreement(images, name) for name in class_names])


def _agreement(images: Mapping[str, Any], name: str) -> tuple[Outcome, str]:
    lora, baseline, real = (
        find(images, arm, name, "label_agreement") for arm in ("lora", "baseline", "real")
    )
    if not has_value(lora) or not has_value(baseline):
        return "absent", f"Whether images asked to be {name} look so to the judge: {NOT_MEASURED}."
    worse = below(lora, baseline)
    outcome, remark = "good", ""
    if worse:
        outcome, remark = "bad", " That is worse than without it."
    elif bound(lora, 1) < 0.5:
        outcome, remark = "bad", " Most do not show what was asked for."
    elif bound(lora, 0) <= 0.5:
        outcome, remark = "open", " Whether most show what was asked for is not clear."
    return outcome, (  # type: ignore[return-value]
        f"Asked for {name}, the judge agrees on {share(lora)} of the images with the LoRA and {share(baseline)} without it "
        f"(real {name} images: {share(real)}).{remark}"
    )


def diversity(images: Mapping[str, Any]) -> Verdict:
    """Against as many real images: fewer kinds, gaps, or images that are alike."""
    parts = [_diversity(images, *what) for what in SPREADS] + [
        _alike(images, space, title) for space, title in SPACES.items()
    ]
    return gathered("Diversity against real images", "images", parts)


def _alike(images: Mapping[str, Any], space: str, title: str) -> tuple[Outcome, str]:
    """Images that lie nearer to another generated one than 95 % of real ones lie to another real one."""
    found, n = (
        find(images, "memorization", "arms", "lora", "duplicates", space),
        find(images, "lora", "overall", "n"),
    )
    if found is None or not n:
        return "absent", f"{title}, images that are alike: {NOT_MEASURED}."
    p = binomtest(round(found * n), n, ALIKE, alternative="greater").pvalue
    told = f"{title} {found:.0%} of the images with the LoRA lie as near to another of them as {ALIKE:.0%} of real images do"
    return ("bad", f"{told}: they are more alike.") if p < ALIKE_SURE else ("good", f"{told}.")


def _diversity(
    images: Mapping[str, Any], key: str, space: str, wanted: str, what: str
) -> tuple[Outcome, str]:
    lora, real = (_of_set(images, arm, space, key) for arm in ("lora", "real"))
    if not has_value(lora) or not has_value(real):
        return "absent", f"{_capital(what)}: {NOT_MEASURED}."
    less, more = (below(lora, real), below(real, lora))[:: 1 if wanted == "higher" else -1]
    says = "less diverse" if less else "more varied" if more else "not told apart"
    told = (
        f"{_capital(what)}: {interval(lora)} with the LoRA, {interval(real)} of as many real images; {says}."
    )
    return ("bad" if less else "good" if more or _close(lora, real) else "open"), told


def sharpness(images: Mapping[str, Any], class_names: Sequence[str]) -> Verdict:
    """Blurred or noisy, against real images of the same class and size; over all classes their differences would hide it."""
    return gathered(
        "Sharpness against real images", "images", [_sharpness(images, name) for name in class_names]
    )


def _sharpness(images: Mapping[str, Any], name: str) -> tuple[Outcome, str]:
    lora, baseline, real = (find(images, arm, name, "sharpness") for arm in ("lora", "baseline", "real"))
    if not has_value(lora) or not has_value(real):
        return "absent", f"Sharpness of {name} images against real ones: {NOT_MEASURED}."
    blurred, harsh = below(lora, real), below(real, lora)
    says = (
        "blurrier than real ones"
        if blurred
        else "sharper or noisier than real ones"
        if harsh
        else "not told apart from real ones"
    )
    told = f"{_capital(name)} images with the LoRA are {says}: {interval(lora)} against {interval(real)}"
    told += f"; the baseline has {interval(baseline)}."
    return ("bad" if blurred or harsh else "good" if _close(lora, real) else "open"), told


def _close(lora: Mapping[str, Any], real: Mapping[str, Any]) -> bool:
    """Whether all of the interval lies within `CLOSE` of the real images' value."""
    room = CLOSE * abs(real["value"])
    return real["value"] - room <= bound(lora, 0) and bound(lora, 1) <= real["value"] + room


def _of_set(images: Mapping[str, Any], arm: str, space: str, key: str) -> Any:
    """A metric of all classes together; those of the labeller's space stand in the group itself."""
    return find(images, arm, "overall", *([] if space == "labeller" else [space]), key)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
