"""Cautions above the image metrics: few images, and classes without reference images."""

from collections.abc import Mapping
from typing import Any

from vdm_pipeline.stages.report.metric_values import lookup
from vdm_pipeline.stages.report.titles import OVERALL

MIN_REFERENCE_IMAGES = 50
"""With fewer reference images overall, the report explains why there are not more."""


def cautions(images: Mapping[str, Any]) -> list[str]:
    """Sentences to read before the tables; ``images`` is image_metrics.json."""
    checks = (_fid_of_few_images, _small_real_set, _few_reference_images, _classes_without_reference)
    return [caution for check in checks if (caution := check(images))]


def _fid_of_few_images(images: Mapping[str, Any]) -> str | None:
    minimum = lookup(images, "fid_trusted_from")
    n, n_reference = (lookup(images, "lora", OVERALL, key) for key in ("n", "n_reference"))
    if None in (minimum, n, n_reference) or min(n, n_reference) >= minimum:
        return None
    return (
        f"FID needs {minimum} images per set. With {n} against {n_reference} images it is too high, "
        "by an amount that varies between sets. Do not read it alone."
    )


def _small_real_set(images: Mapping[str, Any]) -> str | None:
    n_real, n_lora = (lookup(images, arm, OVERALL, "n") for arm in ("real", "lora"))
    if None in (n_real, n_lora) or n_real >= n_lora:
        return None
    return (
        f"Only {n_real} real images remain outside the training subset, fewer than the {n_lora} images of "
        "an arm. Column “real (control)” is therefore measured on fewer images and has wider intervals."
    )


def _few_reference_images(images: Mapping[str, Any]) -> str | None:
    n_reference, n_held_out = lookup(images, "lora", OVERALL, "n_reference"), lookup(images, "reference", "n")
    if not n_reference or n_held_out is None or n_reference >= MIN_REFERENCE_IMAGES:
        return None
    if n_reference == n_held_out:
        return None
    return (
        f"Over all classes, only {n_reference} of {n_held_out} held-out images can be used: they must have "
        "the class proportions of the generated images, and one class has few held-out images."
    )


def _classes_without_reference(images: Mapping[str, Any]) -> str | None:
    absent = lookup(images, "reference", "absent")
    if not absent:
        return None
    split = lookup(images, "reference", "split")
    return (
        f"The {split} split has no images of {', '.join(absent)}: "
        "metrics of image sets are given per class only, not over all classes."
    )
