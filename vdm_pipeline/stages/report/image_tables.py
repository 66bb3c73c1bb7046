"""Tables of the image metrics: against real images, pair by pair, copies, and utility."""

from collections.abc import Mapping, Sequence
from typing import Any

from vdm_pipeline.stages.evaluation.spaces import SPACES
from vdm_pipeline.stages.report.tables import Block, Cell, Row, Table, metric_cell
from vdm_pipeline.stages.report.wording import NOT_MEASURED, chance, find

ARMS = {
    "real": "real against real: the floor",
    "baseline": "baseline",
    "lora": "with LoRA",
}
OTHER_REAL = {"real_to_test": "the same real images, against test"}
"""How far two real sets can lie apart; it stands last."""
FEW = 50
"""Held-out images below which it is said why no more are compared."""
SET_METRICS = {
    "kid": "KID ↓",
    "cmmd": "CMMD ↓",
    "fid": "FID ↓",
    "precision": "precision ↑",
    "recall": "recall ↑",
    "density": "density ↑",
    "coverage": "coverage ↑",
    "diversity": "Vendi score ↑",
}
IMAGE_METRICS = {
    "label_agreement": "judge's label agreement ↑",
    "label_confidence": "judge's confidence in it ↑",
    "ms_ssim": "MS-SSIM within a class ↓",
    "sharpness": "sharpness",
    "chroma": "colour spread",
}
PAIRED = {
    "label_agreement": "judge's label agreement ↑",
    "label_confidence": "judge's confidence in it ↑",
    "nearest_real_labeller": "distance to the nearest real image, labeller",
    "nearest_real_independent": "distance to the nearest real image, independent",
    "sharpness": "sharpness",
    "chroma": "colour spread",
}
COPIES = {
    "n": "images",
    "n_train": "training images",
    "n_held_out": "held-out images",
    "share_near_train": "share near a training image",
    "share_near_held_out": "share near a held-out image",
    "copied": "copies: share much nearer to training than to held-out images",
    "p_copied": "p of the copies",
    "share_nearest_is_train": "share whose nearest is a training image",
    "ratio": "distance to training over held-out",
    "p": "p of the ratio",
}
DUPLICATES = {
    "of_training": "training images, pixel by pixel",
    "exact": "another of them, pixel by pixel",
    "labeller": "share alike in the labeller's space",
    "independent": "share alike in the independent space",
}
SETS = {
    "real": "real",
    "real_twice": "the same real images twice",
    "real_and_synthetic": "real and with LoRA",
    "synthetic": "with LoRA alone",
    "synthetic_baseline": "baseline alone",
}


def metrics_table(images: Mapping[str, Any], group: str) -> Table:
    """Every metric of ``group``, ``overall`` or a class: the floor first, then the arms."""
    arms = {title: find(images, arm, group) for arm, title in ARMS.items()}
    arms |= {name: find(arm, group) for name, arm in (find(images, "extra") or {}).items()}
    arms |= {title: find(images, arm, group) for arm, title in OTHER_REAL.items()}

    def rows(titles: Mapping[str, str], *under: str) -> list[Row]:
        return [
            Row(title, [metric_cell(find(arm, *under, key)) for arm in arms.values()])
            for key, title in titles.items()
        ]

    blocks = [
        Block("", rows({"n": "images", "n_reference": "compared with real images"})),
        Block(space_title(images, "labeller"), rows(SET_METRICS)),
        Block(space_title(images, "independent"), rows(SET_METRICS, "independent")),
        Block("image by image", rows(IMAGE_METRICS)),
    ]
    return Table(f"{group_title(group)}: images against held-out real ones", list(arms), blocks)


def group_title(group: str) -> str:
    """What a group is called."""
    return "All classes together" if group == "overall" else group


def cautions(images: Mapping[str, Any]) -> list[str]:
    """What is to be known before the tables are read: FID of few images, a floor of fewer images, classes without a reference."""
    told = [_fid_of_few(images), _smaller_floor(images), _few_compared(images)]
    if absent := find(images, "reference", "absent"):
        split = find(images, "reference", "split")
        told.append(
            f"{split} holds no image of {', '.join(absent)}: metrics of whole sets are told class by class alone."
        )
    return [caution for caution in told if caution]


def _fid_of_few(images: Mapping[str, Any]) -> str | None:
    """Why FID is not to be read by itself, where sets are smaller than it needs."""
    least, counts = (
        find(images, "fid_trusted_from"),
        [find(images, "lora", "overall", key) for key in ("n", "n_reference")],
    )
    if least is None or None in counts or min(counts) >= least:
        return None
    told = f"FID needs {least} images a set; {counts[0]} against {counts[1]} make it too large by an amount that differs from set to set."
    return f"{told} Do not read it alone."


def _few_compared(images: Mapping[str, Any]) -> str | None:
    compared, there = find(images, "lora", "overall", "n_reference"), find(images, "reference", "n")
    if not compared or there is None or compared >= FEW or compared == there:
        return None
    return f"With the class shares of the arms only {compared} of {there} held-out images can be compared overall: one class has few of them."


def _smaller_floor(images: Mapping[str, Any]) -> str | None:
    real, lora = (find(images, arm, "overall", "n") for arm in ("real", "lora"))
    if None in (real, lora) or real >= lora:
        return None
    return f"Outside the subset there are {real} real images for the {lora} of an arm: the floor is of fewer, with wider intervals."


def paired_table(images: Mapping[str, Any], groups: Sequence[str]) -> Table:
    """LoRA minus baseline of the same prompt and seed, by group."""
    paired = find(images, "paired") or {}
    counts = [
        next(filter(None, (find(metric, group, "n") for metric in paired.values())), None) for group in groups
    ]
    rows = [Row("pairs", [metric_cell(count) for count in counts])]
    rows += [
        Row(title, [_with_p(find(paired, key, group)) for group in groups]) for key, title in PAIRED.items()
    ]
    return Table(
        "LoRA minus baseline, image by image", [group_title(group) for group in groups], [Block("", rows)]
    )


def copies_table(images: Mapping[str, Any]) -> Table:
    """Nearness to training images, an arm a column; real images that were never trained on are the control."""
    found = find(images, "memorization", "arms") or {}
    titles = {"real": "real, never trained on: control", "baseline": "baseline", "lora": "with LoRA"}
    arms = {titles[key]: found.get(key) for key in titles} | {
        name: arm for name, arm in found.items() if name not in titles
    }

    def rows(names: Mapping[str, str], under: str) -> list[Row]:
        return [
            Row(title, [_cell(key, find(arm, under, key)) for arm in arms.values()])
            for key, title in names.items()
        ]

    blocks = [Block(space_title(images, space), rows(COPIES, space)) for space in SPACES]
    return Table(
        "Nearness to training images", list(arms), [*blocks, Block("repeats", rows(DUPLICATES, "duplicates"))]
    )


def utility_table(images: Mapping[str, Any], class_names: Sequence[str]) -> Table:
    """Classifiers by what they were trained on; and what the synthetic images add."""
    found = find(images, "utility")
    rows = []
    for key, title in SETS.items():
        recalls = [metric_cell(find(found, "sets", key, "recall", name)) for name in class_names]
        scores = [metric_cell(find(found, "sets", key, name)) for name in ("n", "balanced_accuracy")]
        rows.append(Row(title, scores + recalls))
    blank = [Cell("")] * len(class_names)
    gains = [
        Row(f"minus {SETS[key]}", [Cell(""), metric_cell(find(found, "gains", key)), *blank])
        for key in ("real", "real_twice")
    ]
    columns = ["training images", "balanced accuracy ↑", *(f"recall of {name} ↑" for name in class_names)]
    blocks = [Block("trained on", rows), Block("real and with LoRA", gains)]
    return Table("A classifier tested on real images it has not seen", columns, blocks)


def space_title(images: Mapping[str, Any], space: str) -> str:
    """What a feature space is called."""
    title = find(images, "feature_spaces", space) or NOT_MEASURED
    return f"{space} space: {title}"


def _cell(key: str, value: Any) -> Cell:
    return Cell(chance(value)) if key in ("p", "p_copied") and value is not None else metric_cell(value)


def _with_p(metric: Any) -> Cell:
    return (
        metric_cell(metric, f"p = {chance(metric['p'])}")
        if find(metric, "p") is not None
        else metric_cell(metric)
    )
