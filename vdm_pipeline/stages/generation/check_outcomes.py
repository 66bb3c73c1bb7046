"""What can be found wrong with generated images: pure functions over plain values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.settings import Faults
from vdm_pipeline.stages.check_outcome import CheckOutcome
from vdm_pipeline.stages.data.quality import image_keys

PLANNED = ("file_name", "label", "prompt", "seed")


def complete(rows: Sequence[Mapping[str, Any]], planned: Sequence[Mapping[str, Any]]) -> CheckOutcome:
    """Every image of the plan is there, with its label, prompt and seed, and no other."""
    found, wanted = ([tuple(row[key] for key in PLANNED) for row in each] for each in (rows, planned))
    absent, stray = len(set(wanted) - set(found)), len(set(found) - set(wanted))
    good = not absent and not stray and len(found) == len(wanted)
    wrong = f"of {len(wanted)} planned images {absent} are absent; {stray} are not planned"
    return CheckOutcome(
        good,
        f"{len(found)} images, as planned" if good else wrong,
        {"n": len(found), "absent": absent, "not_planned": stray},
    )


def sound_pixels(images: NDArray[np.uint8], faults: Faults) -> CheckOutcome:
    """No image ``[n, h, w]`` or ``[n, h, w, 3]`` is blank or burnt out, by the limits that hold for the archive's images."""
    flat = images.reshape(
        len(images), images.shape[1] * images.shape[2], 1 if images.ndim == 3 else images.shape[3]
    )
    blank = int((flat.std(axis=1).max(axis=1) < faults.blank_std).sum())
    burnt = int((((flat == 0) | (flat == 255)).mean(axis=(1, 2)) >= faults.saturated_share).sum())
    sentence = f"{blank} of {len(images)} images are blank, {burnt} saturated"
    return CheckOutcome(not blank and not burnt, sentence, {"blank": blank, "saturated": burnt})


def all_different(images: NDArray[np.uint8]) -> CheckOutcome:
    """No two images have the same pixels."""
    repeated = len(images) - len(set(image_keys(images)))
    return CheckOutcome(
        not repeated,
        f"{repeated} of {len(images)} images repeat another, pixel by pixel",
        {"repeated": repeated},
    )


def grey_enough(chroma: Sequence[float], limit: float) -> CheckOutcome:
    """The model draws in grey: its colours, before they were dropped, spread by no more than ``limit`` grey levels."""
    tinted = sum(value > limit for value in chroma)
    sentence = f"{tinted} of {len(chroma)} images were drawn with a colour spread above checks.max_chroma = {limit:g} grey levels"
    return CheckOutcome(not tinted, sentence, {"tinted": tinted, "largest": max(chroma, default=0.0)})


def prompts_fit(
    prompts: Sequence[str], captions: Sequence[str], tokens: Mapping[str, int], limit: int
) -> CheckOutcome:
    """Images are asked for in the words of the captions that the adapter learnt, and all words are read."""
    strange, long = (
        sorted(set(prompts) - set(captions)),
        sorted(text for text, count in tokens.items() if count > limit),
    )
    faults = [f"no caption of the subset reads {text!r}" for text in strange]
    faults += [f"{text!r} has {tokens[text]} tokens, and {limit} are read" for text in long]
    sentence = (
        "; ".join(faults)
        or f"prompts are the captions of the subset, of {max(tokens.values(), default=0)} tokens at most"
    )
    return CheckOutcome(not faults, sentence, {"prompts": len(set(prompts)), "captions": len(set(captions))})
