"""What can be found wrong with generated images: pure functions over plain values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.settings import Faults
from vdm_pipeline.stages.data_faults import image_keys
from vdm_pipeline.stages.findings import Finding

SURE = 0.01
"""Below this ``p_copied``, copies are not there by chance."""
LEAST_HELD_OUT = 20
"""Held-out images below which a copy cannot be told: by chance one in a hundred of them is as near as a copy."""
PLANNED = ("file_name", "label", "prompt", "seed")


def same_plan(generated: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]]) -> Finding:
    """Both arms have the same images in label, prompt, seed, steps and guidance; only the adapters differ."""
    keys = ("file_name", "label", "prompt", "seed", "steps", "guidance_scale", "size", "grey", "base_model")
    plans = [[tuple(row[key] for key in keys) for row in rows] for rows in (generated, baseline)]
    pairs = zip(generated, baseline, strict=False)
    ours = all("lora" in a["adapters"] and {k: v for k, v in a["adapters"].items() if k != "lora"} == b["adapters"] for a, b in pairs)
    fair = bool(generated) and plans[0] == plans[1] and ours
    sentence = "the arms differ in our adapter alone" if fair else "the arms are not the same plan with and without our adapter"
    return Finding(fair, sentence, {"n": len(generated)})


def complete(rows: Sequence[Mapping[str, Any]], planned: Sequence[Mapping[str, Any]]) -> Finding:
    """Every image of the plan is there, with its label, prompt and seed, and no other."""
    found, wanted = ([tuple(row[key] for key in PLANNED) for row in each] for each in (rows, planned))
    absent, stray = len(set(wanted) - set(found)), len(set(found) - set(wanted))
    good = not absent and not stray and len(found) == len(wanted)
    wrong = f"of {len(wanted)} planned images {absent} are absent; {stray} are not planned"
    return Finding(good, f"{len(found)} images, as planned" if good else wrong, {"n": len(found), "absent": absent, "not_planned": stray})


def sound_pixels(images: NDArray[np.uint8], faults: Faults) -> Finding:
    """No image ``[n, h, w]`` or ``[n, h, w, 3]`` is blank or burnt out, by the limits that hold for the archive's images."""
    flat = images.reshape(len(images), images.shape[1] * images.shape[2], -1)
    blank = int((flat.std(axis=1).max(axis=1) < faults.blank_deviation).sum())
    burnt = int((((flat == 0) | (flat == 255)).mean(axis=(1, 2)) >= faults.saturated_share).sum())
    sentence = f"{blank} of {len(images)} images are blank, {burnt} saturated"
    return Finding(not blank and not burnt, sentence, {"blank": blank, "saturated": burnt})


def all_different(images: NDArray[np.uint8]) -> Finding:
    """No two images have the same pixels."""
    repeated = len(images) - len(set(image_keys(images)))
    return Finding(not repeated, f"{repeated} of {len(images)} images repeat another, pixel by pixel", {"repeated": repeated})


def grey_enough(chroma: Sequence[float], limit: float) -> Finding:
    """The model draws in grey: its colours, before they were dropped, spread by no more than ``limit`` grey levels."""
    tinted = sum(value > limit for value in chroma)
    sentence = f"{tinted} of {len(chroma)} images were drawn with a colour spread above checks.max_chroma = {limit:g} grey levels"
    return Finding(not tinted, sentence, {"tinted": tinted, "largest": max(chroma, default=0.0)})


def adapter_acts(generated: NDArray[np.uint8], baseline: NDArray[np.uint8], least: float) -> Finding:
    """Each image differs from that of the same seed without our adapter by ``least`` grey levels in the mean over its pixels.

    Both are uint8 ``[n, ...]`` in one order. Two machines or batch sizes round some pixels by a level, which is no adapter.
    """
    if generated.shape != baseline.shape:
        return Finding(False, f"the arms hold images of shapes {generated.shape} and {baseline.shape}, so they are no pairs", {})
    change = np.abs(generated.astype(int) - baseline).reshape(len(generated), -1).mean(axis=1)
    same = int((change < least).sum())
    figures = {"same": same, "change": float(change.mean())}
    sentence = f"{same} of {len(change)} images change by less than checks.min_adapter_change = {least:g} grey levels without our adapter"
    return Finding(not same, sentence, figures)


def prompts_fit(prompts: Sequence[str], captions: Sequence[str], tokens: Mapping[str, int], limit: int) -> Finding:
    """Images are asked for in the words of the captions that the adapter learnt, and all words are read."""
    strange, long = sorted(set(prompts) - set(captions)), sorted(text for text, count in tokens.items() if count > limit)
    faults = [f"no caption of the subset reads {text!r}" for text in strange]
    faults += [f"{text!r} has {tokens[text]} tokens, and {limit} are read" for text in long]
    sentence = "; ".join(faults) or f"prompts are the captions of the subset, of {max(tokens.values(), default=0)} tokens at most"
    return Finding(not faults, sentence, {"prompts": len(set(prompts)), "captions": len(set(captions))})


def closer_than_baseline(images: Mapping[str, Any]) -> Finding:
    """With our adapter the images are closer to real ones than without, beyond both intervals of KID, in every feature space."""
    found = {}
    for space in images.get("feature_spaces", {}):
        arms = (images[arm]["overall"] for arm in ("lora", "baseline"))
        found[space] = [(arm if space == "labeller" else arm[space])["kid"] for arm in arms]
    if not found or None in [kid for kids in found.values() for kid in kids]:
        return Finding(False, "too few images to tell whether the adapter brings them closer to real ones", {})
    closer = all(lora["ci95"][1] < baseline["ci95"][0] for lora, baseline in found.values())
    told = [f"{lora['value']:.3g} with and {baseline['value']:.3g} without it ({space})" for space, (lora, baseline) in found.items()]
    says = "brings" if closer else "does not clearly bring"
    figures = {f"kid_{arm}_{space}": kids[i]["value"] for space, kids in found.items() for i, arm in enumerate(("lora", "baseline"))}
    return Finding(closer, f"the adapter {says} images closer to real ones: KID {', '.join(told)}", figures)


def copies_too_many(space: Mapping[str, Any], max_copied: float) -> bool:
    """Whether ``copied``, of one arm in one space, exceeds the limit and what chance explains."""
    return bool(space["copied"]["value"] > max_copied and space["p_copied"] < SURE)


def can_tell_copies(memorization: Mapping[str, Any]) -> bool:
    """Whether there are held-out images enough, in every arm and space of image_metrics.json's ``memorization``."""
    return all(values["n_held_out"] >= LEAST_HELD_OUT for values in _judged(memorization).values())


def not_copied(memorization: Mapping[str, Any], max_copied: float) -> Finding:
    """No arm copies a larger share of its images than ``max_copied`` from the training images, in any feature space.

    ``memorization`` is that of image_metrics.json; its arm ``real``, which is not generated, is not judged. What cannot be
    told for want of held-out images does not pass.
    """
    found = _judged(memorization)
    figures = {f"copied_{arm}_{space}": values["copied"]["value"] for (arm, space), values in found.items()}
    if not can_tell_copies(memorization):
        fewest = min(values["n_held_out"] for values in found.values())
        sentence = f"whether images are copies cannot be told by {fewest} held-out images; {LEAST_HELD_OUT} are the least"
        return Finding(False, sentence, figures)
    (arm, space), worst = max(found.items(), key=lambda item: (copies_too_many(item[1], max_copied), item[1]["copied"]["value"]))
    copying = any(copies_too_many(values, max_copied) for values in found.values())
    says = "are copies of training images beyond what chance explains" if copying else "are no copies of training images"
    low, high = worst["copied"]["ci95"]
    sentence = (
        f"the images {says}: at most {worst['copied']['value']:.1%} [{low:.1%}, {high:.1%}] lie much nearer to a training image "
        f"than to any held-out one ({arm}, {space}); 1% is expected, and so many by chance with p = {worst['p_copied']:.2g}"
    )
    return Finding(not copying, sentence, figures)


def _judged(memorization: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """What was found of each generated arm in each space."""
    return {
        (arm, space): values
        for arm, spaces in memorization["arms"].items()
        for space, values in spaces.items()
        if arm != "real" and space != "duplicates"
    }
