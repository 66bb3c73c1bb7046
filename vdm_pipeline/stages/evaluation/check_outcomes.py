"""Checks of a comparison: is it fair, does the adapter act, does it help, and are images copies? Pure functions over plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.check_outcome import CheckOutcome
from vdm_pipeline.stages.evaluation.spaces import SPACES

ALPHA = 0.01
"""Below this ``p_copied``, copies are not there by chance."""
LEAST_HELD_OUT = 100
"""Held-out images below which a copy cannot be told: by chance one in a hundred is as near as a copy."""
PLANNED = ("file_name", "label", "prompt", "seed")
SHARED = (*PLANNED, "scheduler", "steps", "guidance_scale", "size", "grey", "base_model", "lcm_sha256")
"""What the arms of a fair comparison have in common."""


def same_plan(generated: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]]) -> CheckOutcome:
    """Both arms have the same images by the same means; only our adapter differs."""
    plans = [[tuple(row[key] for key in SHARED) for row in rows] for rows in (generated, baseline)]
    pairs = zip(generated, baseline, strict=False)
    ours = all(
        "lora" in a["adapters"] and {k: v for k, v in a["adapters"].items() if k != "lora"} == b["adapters"]
        for a, b in pairs
    )
    fair = bool(generated) and plans[0] == plans[1] and ours
    sentence = (
        "the arms differ in our adapter alone"
        if fair
        else "the arms are not the same plan with and without our adapter"
    )
    return CheckOutcome(fair, sentence, {"n": len(generated)})


def adapter_acts(generated: NDArray[np.uint8], baseline: NDArray[np.uint8], least: float) -> CheckOutcome:
    """Each image differs from that of the same seed without our adapter by ``least`` grey levels in the mean over its pixels.

    Both are uint8 ``[n, ...]`` in one order. Two machines or batch sizes round some pixels by a level, which is no adapter.
    """
    if generated.shape != baseline.shape:
        return CheckOutcome(
            False,
            f"the arms hold images of shapes {generated.shape} and {baseline.shape}, so they are no pairs",
            {},
        )
    change = np.abs(generated.astype(int) - baseline).reshape(len(generated), -1).mean(axis=1)
    same = int((change < least).sum())
    figures = {"same": same, "change": float(change.mean())}
    sentence = f"{same} of {len(change)} images change by less than checks.min_adapter_change = {least:g} grey levels without our adapter"
    return CheckOutcome(not same, sentence, figures)


def closer_than_baseline(images: Mapping[str, Any]) -> CheckOutcome:
    """With our adapter the images are closer to real ones than without, beyond both intervals of KID, in every feature space."""
    found = {}
    for space in images.get("feature_spaces", {}):
        arms = (images[arm]["overall"] for arm in ("lora", "baseline"))
        found[space] = [(arm if space == "labeller" else arm[space])["kid"] for arm in arms]
    if not found or None in [kid for kids in found.values() for kid in kids]:
        return CheckOutcome(
            False, "too few images to tell whether the adapter brings them closer to real ones", {}
        )
    closer = all(lora["ci95"][1] < baseline["ci95"][0] for lora, baseline in found.values())
    told = [
        f"{lora['value']:.3g} with and {baseline['value']:.3g} without it ({space})"
        for space, (lora, baseline) in found.items()
    ]
    says = "brings" if closer else "does not clearly bring"
    figures = {
        f"kid_{arm}_{space}": kids[i]["value"]
        for space, kids in found.items()
        for i, arm in enumerate(("lora", "baseline"))
    }
    return CheckOutcome(
        closer, f"the adapter {says} images closer to real ones: KID {', '.join(told)}", figures
    )


def copies_too_many(space: Mapping[str, Any], max_copied: float) -> bool:
    """Whether ``copied``, of one arm in one space, exceeds the limit and what chance explains."""
    return bool(space["copied"]["value"] > max_copied and space["p_copied"] < ALPHA)


@dataclass(frozen=True)
class Copies:
    """Whether there are copies of training images: ``none``, ``some``, or ``unclear``, in a sentence with its figures."""

    state: Literal["none", "some", "unclear"]
    sentence: str
    figures: dict[str, int | float]

    @property
    def outcome(self) -> CheckOutcome:
        """Passed if there are none."""
        return CheckOutcome(self.state == "none", self.sentence, self.figures)


def copies(memorization: Mapping[str, Any], max_copied: float) -> Copies:
    """Whether an arm holds copies of training images; ``memorization`` is that of image_metrics.json.

    ``some``: an image has the pixels of a training image, or a larger share than ``max_copied`` counts as copies, in any space,
    beyond what chance explains. ``unclear``: the share is larger but may be chance, or there are too few held-out images. The
    arm ``real``, which is not generated, is not judged. Raises ``KeyError`` if the LoRA's arm or a space is not there.
    """
    arms = {"lora": memorization["arms"]["lora"]} | {
        name: arm for name, arm in memorization["arms"].items() if name != "real"
    }
    found = {(name, space): arm[space] for name, arm in arms.items() for space in SPACES}
    exact = {name: arm["duplicates"]["of_training"] for name, arm in arms.items()}
    fewest = min(values["n_held_out"] for values in found.values())
    told = {key: values for key, values in found.items() if values["copied"]}
    figures = {f"copied_{name}_{space}": values["copied"]["value"] for (name, space), values in told.items()}
    figures |= {f"exact_{name}": count for name, count in exact.items()}
    if most := max(exact.values()):
        name = max(exact, key=exact.__getitem__)
        return Copies("some", f"{most} of the images ({name}) have the pixels of a training image", figures)
    if any(copies_too_many(values, max_copied) for values in told.values()):
        return Copies(
            "some",
            f"images are copies of training images beyond what chance explains: {_worst(told, max_copied)}",
            figures,
        )
    if fewest < LEAST_HELD_OUT:
        sentence = f"whether images are copies cannot be told by {fewest} held-out images with the training images' class shares"
        return Copies("unclear", f"{sentence}; {LEAST_HELD_OUT} are the least", figures)
    above = any(values["copied"]["value"] > max_copied for values in told.values())
    says = (
        "whether images are copies is not clear" if above else "the images are no copies of training images"
    )
    return Copies("unclear" if above else "none", f"{says}: {_worst(told, max_copied)}", figures)


def _worst(found: Mapping[tuple[str, str], Mapping[str, Any]], max_copied: float) -> str:
    """The arm and space with the most copies, those first that chance does not explain."""
    (arm, space), worst = max(
        found.items(), key=lambda item: (copies_too_many(item[1], max_copied), item[1]["copied"]["value"])
    )
    low, high = worst["copied"]["ci95"]
    return (
        f"{worst['copied']['value']:.1%} [{low:.1%}, {high:.1%}] lie much nearer to a training image than to any held-out one "
        f"({arm}, {space}, the most of all arms); 1% is expected, so many by chance with p = {worst['p_copied']:.2g}, "
        f"and checks.max_copied is {max_copied:.0%}"
    )
