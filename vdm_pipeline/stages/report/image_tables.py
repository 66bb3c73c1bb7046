"""Tables of the image metrics: comparison with real images, paired differences, copies, and utility."""

from collections.abc import Mapping, Sequence
from typing import Any

from vdm_pipeline.stages.evaluation.spaces import INDEPENDENT, LABELLER, SPACES
from vdm_pipeline.stages.report.formatting import NOT_MEASURED, capitalized, p_value
from vdm_pipeline.stages.report.metric_values import lookup, set_metric
from vdm_pipeline.stages.report.tables import Block, Cell, Row, Table, metric_cell
from vdm_pipeline.stages.report.titles import (
    ARM_TITLES,
    SPACE_TITLES,
    TRAINING_SET_TITLES,
    group_title,
)

LOWER_IS_BETTER, HIGHER_IS_BETTER = "\N{NO-BREAK SPACE}↓", "\N{NO-BREAK SPACE}↑"
REAL_TO_TEST = "real, against test"
"""Column with the difference between two sets of real images; always the last one."""
SET_METRICS = {
    "kid": f"KID{LOWER_IS_BETTER}",
    "cmmd": f"CMMD{LOWER_IS_BETTER}",
    "fid": f"FID{LOWER_IS_BETTER}",
    "precision": f"precision{HIGHER_IS_BETTER}",
    "recall": f"recall{HIGHER_IS_BETTER}",
    "density": f"density{HIGHER_IS_BETTER}",
    "coverage": f"coverage{HIGHER_IS_BETTER}",
    "diversity": f"Vendi score{HIGHER_IS_BETTER}",
}
JUDGE_METRICS = {
    "label_agreement": f"judge agrees with the class{HIGHER_IS_BETTER}",
    "label_confidence": f"judge's confidence in the class{HIGHER_IS_BETTER}",
}
IMAGE_METRICS = {
    **JUDGE_METRICS,
    "ms_ssim": f"MS-SSIM within a class{LOWER_IS_BETTER}",
    "sharpness": "sharpness",
    "chroma": "colour (0 is grey)",
}
PAIRED_METRICS = {
    **JUDGE_METRICS,
    **{
        f"nearest_real_{space}": f"distance to the nearest real image, {SPACE_TITLES[space]}"
        for space in SPACES
    },
    "sharpness": "sharpness",
    "chroma": "colour (0 is grey)",
}
COPY_METRICS = {
    "n": "images",
    "n_train": "training images",
    "n_held_out": "held-out images",
    "share_near_train": "share near a training image",
    "share_near_held_out": "share near a held-out image",
    "copied": "share of copies",
    "p_copied": "p of the share of copies",
    "share_nearest_is_train": "share whose nearest real image is a training image",
    "ratio": "distance ratio, training / held-out",
    "p": "p of the distance ratio",
}
DUPLICATE_METRICS = {
    "of_training": "pixel-identical to a training image",
    "exact": "pixel-identical to another image of the arm",
    **{space: f"share of near duplicates, {SPACE_TITLES[space]}" for space in SPACES},
}


def metrics_table(images: Mapping[str, Any], group: str) -> Table:
    """Every metric of ``group`` (``overall`` or a class): real images first, then the arms."""
    arms = {title: lookup(images, arm) for arm, title in ARM_TITLES.items()}
    arms |= lookup(images, "extra") or {}
    arms[REAL_TO_TEST] = lookup(images, "real_to_test")

    def rows(space: str, metrics: Mapping[str, str]) -> list[Row]:
        return [
            Row(title, [metric_cell(set_metric(arm, group, space, key)) for arm in arms.values()])
            for key, title in metrics.items()
        ]

    blocks = [
        Block("", rows(LABELLER, {"n": "images", "n_reference": "held-out real images"})),
        Block(space_title(images, LABELLER), rows(LABELLER, SET_METRICS)),
        Block(space_title(images, INDEPENDENT), rows(INDEPENDENT, SET_METRICS)),
        Block("Per image", rows(LABELLER, IMAGE_METRICS)),
    ]
    return Table(f"{group_title(group)}, compared with held-out real images", list(arms), blocks)


def paired_table(images: Mapping[str, Any], groups: Sequence[str]) -> Table:
    """LoRA minus baseline at the same prompt and seed, by group."""
    paired = lookup(images, "paired") or {}
    counts = [_pair_count(paired, group) for group in groups]
    rows = [Row("pairs", [metric_cell(count) for count in counts])]
    rows += [
        Row(title, [_paired_cell(lookup(paired, key, group)) for group in groups])
        for key, title in PAIRED_METRICS.items()
    ]
    columns = [group_title(group) for group in groups]
    return Table("LoRA minus baseline, at the same prompt and seed", columns, [Block("", rows)])


def copies_table(images: Mapping[str, Any]) -> Table:
    """Distances to training images, by arm; real images never used for training are the control."""
    measured = lookup(images, "memorization", "arms") or {}
    arms = {title: measured.get(arm) for arm, title in ARM_TITLES.items()}
    arms |= {name: arm for name, arm in measured.items() if name not in ARM_TITLES}

    def rows(part: str, metrics: Mapping[str, str]) -> list[Row]:
        return [
            Row(title, [_copy_cell(key, lookup(arm, part, key)) for arm in arms.values()])
            for key, title in metrics.items()
        ]

    blocks = [Block(space_title(images, space), rows(space, COPY_METRICS)) for space in SPACES]
    blocks.append(Block("Duplicates", rows("duplicates", DUPLICATE_METRICS)))
    return Table("Distance to training images, by arm", list(arms), blocks)


def utility_table(images: Mapping[str, Any], class_names: Sequence[str]) -> Table:
    """Classifiers by training set, and the gain from adding synthetic images."""
    utility = lookup(images, "utility")
    rows = []
    for key, title in TRAINING_SET_TITLES.items():
        scores = [metric_cell(lookup(utility, "sets", key, name)) for name in ("n", "balanced_accuracy")]
        recalls = [metric_cell(lookup(utility, "sets", key, "recall", name)) for name in class_names]
        rows.append(Row(title, scores + recalls))
    blank = [Cell("")] * len(class_names)
    gains = [
        Row(
            f"minus {TRAINING_SET_TITLES[key]}",
            [Cell(""), metric_cell(lookup(utility, "gains", key)), *blank],
        )
        for key in ("real", "real_twice")
    ]
    columns = [
        "training images",
        f"balanced accuracy{HIGHER_IS_BETTER}",
        *(f"recall of {name}{HIGHER_IS_BETTER}" for name in class_names),
    ]
    blocks = [Block("Trained on", rows), Block("Gain of real + LoRA", gains)]
    return Table("Classifier tested on unseen real images, by training set", columns, blocks)


def space_title(images: Mapping[str, Any], space: str) -> str:
    """The title of a feature space, and what its features are."""
    features = lookup(images, "feature_spaces", space) or NOT_MEASURED
    return f"{capitalized(SPACE_TITLES[space])}: {features}"


def _pair_count(paired: Mapping[str, Any], group: str) -> int | None:
    counts = (lookup(metric, group, "n") for metric in paired.values())
    return next((count for count in counts if count), None)


def _copy_cell(key: str, value: Any) -> Cell:
    is_p = key in ("p", "p_copied") and value is not None
    return Cell(p_value(value)) if is_p else metric_cell(value)


def _paired_cell(metric: Any) -> Cell:
    p = lookup(metric, "p")
    return metric_cell(metric) if p is None else metric_cell(metric, f"p = {p_value(p)}")
