"""Checks of generated images: pure functions over plain values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.settings import Faults
from vdm_pipeline.stages.check_outcome import CheckOutcome
from vdm_pipeline.stages.data.quality import blank_mask, image_hashes, saturated_mask
from vdm_pipeline.stages.generation.plan import PLANNED_KEYS


def complete(rows: Sequence[Mapping[str, Any]], planned: Sequence[Mapping[str, Any]]) -> CheckOutcome:
    """Whether the rows are exactly the planned images, each with its label, prompt and seed."""
    actual, expected = _planned_values(rows), _planned_values(planned)
    absent = len(set(expected) - set(actual))
    not_planned = len(set(actual) - set(expected))
    passed = not absent and not not_planned and len(actual) == len(expected)
    sentence = f"of {len(expected)} planned images {absent} are missing; {not_planned} are not planned"
    if passed:
        sentence = f"{len(actual)} images, as planned"
    figures = {"n": len(actual), "absent": absent, "not_planned": not_planned}
    return CheckOutcome(passed, sentence, figures)


def _planned_values(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[key] for key in PLANNED_KEYS) for row in rows]


def sound_pixels(images: NDArray[np.uint8], faults: Faults) -> CheckOutcome:
    """Whether no image ``[n, h, w]`` or ``[n, h, w, 3]`` is blank or saturated, as in `data_faults`."""
    blank = int(blank_mask(images, faults)[0].sum())
    saturated = int(saturated_mask(images, faults)[0].sum())
    sentence = f"{blank} of {len(images)} images are blank, {saturated} saturated"
    return CheckOutcome(not blank and not saturated, sentence, {"blank": blank, "saturated": saturated})


def all_different(images: NDArray[np.uint8]) -> CheckOutcome:
    """Whether no two images have the same pixels."""
    repeated = len(images) - len(set(image_hashes(images)))
    sentence = f"{repeated} of {len(images)} images repeat another one, pixel by pixel"
    return CheckOutcome(not repeated, sentence, {"repeated": repeated})


def grey_enough(chroma: Sequence[float], limit: float, in_colour: bool) -> CheckOutcome:
    """Whether the model generates grey images: none has a ``chroma`` above ``limit``, both in grey levels.

    ``chroma`` is measured before an image is converted to grey. With ``in_colour`` the archive's images are
    in colour, so generated ones may be.
    """
    tinted = sum(value > limit for value in chroma)
    sentence = (
        f"{tinted} of {len(chroma)} images have a chroma above checks.max_chroma = {limit:g} grey levels"
    )
    if in_colour:
        sentence += ", as they may: the archive is in colour"
    return CheckOutcome(
        in_colour or not tinted, sentence, {"tinted": tinted, "largest": max(chroma, default=0.0)}
    )


def prompts_fit(
    prompts: Sequence[str], captions: Sequence[str], tokens: Mapping[str, int], limit: int
) -> CheckOutcome:
    """Whether every prompt is a caption that the adapter was trained on, and no text has too many tokens."""
    unknown = sorted(set(prompts) - set(captions))
    too_long = sorted(text for text, count in tokens.items() if count > limit)
    faults = [f"prompt {text!r} is not a caption of the subset" for text in unknown]
    faults += [
        f"{text!r} has {tokens[text]} tokens, more than the {limit} of the encoder" for text in too_long
    ]
    longest = max(tokens.values(), default=0)
    sentence = "; ".join(faults) or f"all prompts are captions of the subset, with at most {longest} tokens"
    return CheckOutcome(not faults, sentence, {"prompts": len(set(prompts)), "captions": len(set(captions))})
