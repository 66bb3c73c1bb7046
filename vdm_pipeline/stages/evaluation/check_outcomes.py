"""Checks of the comparison between arms: is it fair, does the LoRA help, and are images copies?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.check_outcome import CheckOutcome
from vdm_pipeline.stages.evaluation.spaces import LABELLER, SPACES
from vdm_pipeline.stages.generation.plan import PLANNED_KEYS

ALPHA = 0.01
"""Significance level: with a ``p_copied`` below it, copies are more than chance explains."""
MIN_HELD_OUT = 100
"""Fewest held-out images to judge copies: by chance, one image in a hundred is as close as a copy."""
MIN_SENSITIVITY = 0.95
"""Smallest share of noisy copies that the test for single copies must be able to find."""
MEASURED_FALSE_ALARMS = 0.005
"""Largest share of runs without copies in which the test for single copies found one: docs/evaluation.md."""
MAX_LISTED = 3
"""Single copies that a sentence names."""
SHARED_KEYS = (
    *PLANNED_KEYS,
    "scheduler",
    "steps",
    "guidance_scale",
    "size",
    "grey",
    "base_model",
    "lcm_sha256",
)
"""Keys of an image's record that must be equal in the arms of a fair comparison."""
ArmAndSpace = tuple[str, str]
Row = Mapping[str, Any]


def same_plan(generated: Sequence[Row], baseline: Sequence[Row]) -> CheckOutcome:
    """Whether both arms have the same images and settings, and differ only in the trained LoRA."""
    shared, baseline_shared = _shared_values(generated), _shared_values(baseline)
    pairs = zip(generated, baseline, strict=False)
    passed = bool(generated) and shared == baseline_shared and all(_differ_in_lora(*pair) for pair in pairs)
    sentence = "LoRA and baseline images differ only in the trained LoRA"
    if not passed:
        sentence = "LoRA and baseline images must differ only in the LoRA: compare their metadata.jsonl"
    return CheckOutcome(passed, sentence, {"n": len(generated)})


def _shared_values(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    return [tuple(row[key] for key in SHARED_KEYS) for row in rows]


def _differ_in_lora(generated: Row, baseline: Row) -> bool:
    others = {name: weight for name, weight in generated["adapters"].items() if name != "lora"}
    return "lora" in generated["adapters"] and others == baseline["adapters"]


def adapter_acts(
    generated: NDArray[np.uint8], baseline: NDArray[np.uint8], min_change: float
) -> CheckOutcome:
    """Whether the trained LoRA changes every image by at least ``min_change`` grey levels.

    The change is a mean over the image's pixels. Both are uint8 ``[n, ...]`` in the same order. Machines and
    batch sizes differ by a level in some pixels, which is rounding and not the LoRA.
    """
    if generated.shape != baseline.shape:
        shapes = f"{generated.shape} and {baseline.shape}"
        return CheckOutcome(False, f"LoRA and baseline images cannot be compared: shapes {shapes}", {})
    change = np.abs(generated.astype(int) - baseline).reshape(len(generated), -1).mean(axis=1)
    same = int((change < min_change).sum())
    levels = f"{min_change:g} grey level{'s' * (min_change != 1)}"
    sentence = f"the trained LoRA changes all {len(change)} images by at least {levels}"
    if same:
        sentence = (
            f"the trained LoRA changes {same} of {len(change)} images by less than "
            f"checks.min_adapter_change = {levels}"
        )
    return CheckOutcome(not same, sentence, {"same": same, "change": float(change.mean())})


def closer_than_baseline(images: Mapping[str, Any]) -> CheckOutcome:
    """Whether the trained LoRA lowers the KID to real images in every space, beyond the intervals.

    ``images`` is the content of image_metrics.json.
    """
    kids = {
        (arm, space): _kid(images[arm]["overall"], space)
        for space in images.get("feature_spaces", {})
        for arm in ("lora", "baseline")
    }
    if not kids or None in kids.values():
        sentence = "there are too few images to compare the KID of LoRA and baseline images"
        return CheckOutcome(False, sentence, {})
    spaces = list(images["feature_spaces"])
    passed = all(kids["lora", space]["ci95"][1] < kids["baseline", space]["ci95"][0] for space in spaces)
    value = {key: f"{kid['value']:.3g}" for key, kid in kids.items()}
    comparisons = [
        f"{value['lora', space]} with and {value['baseline', space]} without it ({space})" for space in spaces
    ]
    result = "brings" if passed else "does not clearly bring"
    figures = {f"kid_{arm}_{space}": kid["value"] for (arm, space), kid in kids.items()}
    return CheckOutcome(
        passed, f"the trained LoRA {result} images closer to real ones: KID {', '.join(comparisons)}", figures
    )


def _kid(metrics: Mapping[str, Any], space: str) -> Any:
    """KID of an arm in a space; the labeller's space has no level of its own in the file."""
    return (metrics if space == LABELLER else metrics[space])["kid"]


def too_many_copies(space: Mapping[str, Any], max_copied: float) -> bool:
    """Whether the share ``copied`` of an arm in one space exceeds the limit and what chance explains."""
    return bool(space["copied"]["value"] > max_copied and space["p_copied"] < ALPHA)


@dataclass(frozen=True)
class CopyResult:
    """Whether there are copies of training images, with a sentence and figures."""

    state: Literal["none", "some", "unclear"]
    sentence: str
    figures: dict[str, int | float]

    @property
    def outcome(self) -> CheckOutcome:
        """Passed if there are none."""
        return CheckOutcome(self.state == "none", self.sentence, self.figures)


def find_copies(memorization: Mapping[str, Any], max_copied: float) -> CopyResult:
    """Whether any arm has copies of training images; ``memorization`` is that of image_metrics.json.

    ``some``: a single image is a copy (see `single_copies`) or has the pixels of a training image, or in any
    space a larger share than ``max_copied`` are copies, beyond what chance explains. ``unclear``: the share
    is larger but may be chance, or there are too few held-out images to find copies. The arm ``real`` is not
    generated, so it is ignored. Raises ``KeyError`` without ``single_copies``, the LoRA's arm or a space.
    """
    arms = {"lora": memorization["arms"]["lora"]}
    arms |= {name: arm for name, arm in memorization["arms"].items() if name != "real"}
    by_space = {(name, space): arm[space] for name, arm in arms.items() for space in SPACES}
    measured = {key: values for key, values in by_space.items() if values["copied"]}
    exact = {name: arm["duplicates"]["of_training"] for name, arm in arms.items()}
    held_out = min(values["n_held_out"] for values in by_space.values())
    figures = {
        f"copied_{name}_{space}": values["copied"]["value"] for (name, space), values in measured.items()
    }
    figures |= {f"exact_{name}": count for name, count in exact.items()}
    single = memorization["single_copies"]
    figures |= {"single_copies": len(single["found"]), "sensitivity": single["sensitivity"] or 0.0}
    if single["found"]:
        return CopyResult("some", describe_single_copies(single), figures)
    state, sentence = _judge_copies(measured, exact, held_out, max_copied)
    if state == "none" and not is_sensitive(single):
        state, sentence = "unclear", describe_sensitivity(single)
    return CopyResult(state, sentence, figures)


def is_sensitive(single: Mapping[str, Any]) -> bool:
    """Whether there were enough images for the test for single copies to find them."""
    return (single["sensitivity"] or 0.0) >= MIN_SENSITIVITY


def describe_single_copies(single: Mapping[str, Any]) -> str:
    """The closest copies with the training images they are copies of."""
    found = single["found"]
    listed = [
        f"{copy['file_name']} ({copy['arm']}) is a copy of training image {copy['train_image']}"
        f"{copy['orientation'] and ', ' + copy['orientation']} (distance ratio {copy['ratio']:.2g})"
        for copy in found[:MAX_LISTED]
    ]
    more = f"; {len(found) - MAX_LISTED} more copies" if len(found) > MAX_LISTED else ""
    return (
        f"{'; '.join(listed)}{more}; without copies, there is a ratio below {single['limit']:.2g} among the "
        f"{single['n']} images of all arms {describe_false_alarms(single)}"
    )


def describe_false_alarms(single: Mapping[str, Any]) -> str:
    """How often the test for single copies finds one in a run without copies."""
    return (
        f"by design with probability {single['false_alarm_rate']:.1%}, "
        f"in our trials in up to {MEASURED_FALSE_ALARMS:.1%} of the runs"
    )


def describe_sensitivity(single: Mapping[str, Any]) -> str:
    """Why the test for single copies needs more images."""
    return (
        f"not enough images to test for single copies: with {single['n_held_out']} held-out images, "
        f"{single['sensitivity'] or 0:.0%} of copies with 3% noise would be found; "
        f"{MIN_SENSITIVITY:.0%} are needed; add val images"
    )


def _judge_copies(
    measured: Mapping[ArmAndSpace, Mapping[str, Any]],
    exact: Mapping[str, int],
    held_out: int,
    max_copied: float,
) -> tuple[Literal["none", "some", "unclear"], str]:
    """State and sentence of `find_copies`."""
    most_exact = max(exact, key=exact.__getitem__)
    if exact[most_exact]:
        n = exact[most_exact]
        verb = "has" if n == 1 else "have"
        return "some", f"{n} of the images ({most_exact}) {verb} the pixels of a training image"
    if any(too_many_copies(values, max_copied) for values in measured.values()):
        worst = _describe_worst(measured, max_copied)
        return "some", f"images are copies of training images beyond what chance explains: {worst}"
    if held_out < MIN_HELD_OUT:
        sentence = (
            f"{held_out} held-out images with the class proportions of the training images are too few "
            f"to detect copies; at least {MIN_HELD_OUT} are needed; add val images"
        )
        return "unclear", sentence
    worst = _describe_worst(measured, max_copied)
    if any(values["copied"]["value"] > max_copied for values in measured.values()):
        hint = "more generated images (generation.per_class) narrow the interval"
        return "unclear", f"it is not clear whether images are copies: {worst}; {hint}"
    return "none", f"no copies of training images were found: {worst}"


def _describe_worst(measured: Mapping[ArmAndSpace, Mapping[str, Any]], max_copied: float) -> str:
    """The arm and space with the most copies; those that chance does not explain come first."""

    def severity(key: ArmAndSpace) -> tuple[bool, float]:
        values = measured[key]
        return too_many_copies(values, max_copied), values["copied"]["value"]

    arm, space = max(measured, key=severity)
    worst = measured[arm, space]
    low, high = worst["copied"]["ci95"]
    return (
        f"{worst['copied']['value']:.1%} [{low:.1%}, {high:.1%}] are much closer to a training image "
        f"than to any held-out one ({arm}, {space}, the most of all arms); by chance 1% is expected, "
        f"and this many with p = {worst['p_copied']:.2g}; checks.max_copied is {max_copied:.0%}"
    )
