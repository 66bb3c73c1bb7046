"""A small evaluation without models: the classes are images that are bright on the left or on the right."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vdm_pipeline.io.images import resize, write_png
from vdm_pipeline.io.tables import write_rows
from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.data.archive import Archive, Split
from vdm_pipeline.stages.data.grey import to_grey
from vdm_pipeline.stages.evaluation.evaluate import evaluate
from vdm_pipeline.stages.evaluation.features import Space
from vdm_pipeline.stages.evaluation.inputs import EvaluationInputs
from vdm_pipeline.stages.evaluation.results import ImageMetrics
from vdm_pipeline.stages.evaluation.spaces import INDEPENDENT, LABELLER

NAMES = ("left", "right")
FLIPPED = 30
"""Test images, of 40, with the label that contradicts train. All val labels contradict it."""
COPIED = 4
"""LoRA images that are training images."""
SUBSET = list(range(40))
"""Train images that the adapter was trained on."""
DUPLICATE = 5
"""Val image that train repeats."""

INTENDED = {"baseline": np.repeat([1, 0], 10), "lora": np.repeat([0, 1], 10)}
SIDES = {
    "train": np.arange(256) % 2,
    "val": np.arange(48) % 2,
    "test": np.arange(40) % 2,
    "baseline": 1 - INTENDED["baseline"],
    "lora": np.array([0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0]),
}
LABELS = {"train": SIDES["train"], "val": 1 - SIDES["val"], "test": SIDES["test"] ^ (np.arange(40) < FLIPPED)}


def half_bright(sides: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Noise ``[n, size, size]``, brighter on the left where ``sides`` is 0 and on the right where it is 1."""
    rng = np.random.default_rng(seed)
    right = np.arange(size) >= size // 2
    light = np.where(right[None, None, :] == sides[:, None, None].astype(bool), 190, 60)
    return rng.normal(light, 25, (len(sides), size, size)).clip(0, 255).astype(np.uint8)


IMAGES = {
    name: half_bright(sides, 16 if name in INTENDED else 32, seed)
    for seed, (name, sides) in enumerate(SIDES.items())
}
IMAGES["lora"][:COPIED] = resize(IMAGES["train"][SUBSET[:COPIED]], 16)


def pixels(images: np.ndarray) -> np.ndarray:
    """An embedding that needs no model."""
    return to_grey(images).reshape(len(images), -1).astype(np.float32)


def evaluate_example(
    root: Path,
    subset: list[int] | None = None,
    *,
    colour: bool = False,
    copied_val: np.ndarray | tuple = (),
    caption: str = "",
) -> ImageMetrics:
    """Write the folders and evaluate them.

    ``subset``: train images of the adapter. ``copied_val``: more val images that train repeats. ``caption``:
    the class of all captions, instead of the true ones.
    """
    for arm in INTENDED:
        write_arm(root / arm, arm, colour)
    write_subset(root / "subset", SUBSET if subset is None else subset, caption)
    splits = {name: Split.from_arrays(IMAGES[name], labels) for name, labels in LABELS.items()}
    return evaluate(
        EvaluationInputs(
            archive=Archive("phantom", 32, splits, root, "", "", "phantom"),
            faults=faults(copied_val),
            subset=root / "subset",
            arms={"baseline": root / "baseline", "lora": root / "lora", "third": root / "lora"},
            class_names=NAMES,
            resolution=16,
        ),
        {
            LABELLER: Space("pixels", pixels),
            INDEPENDENT: Space("rows", lambda images: to_grey(images).mean(2)),
        },
        Evaluation(judge_epochs=1, bootstrap=50, utility_epochs=1, utility_seeds=1),
        torch.device("cpu"),
        lambda line: None,
    )


def write_arm(folder: Path, arm: str, colour: bool) -> None:
    images = np.repeat(IMAGES[arm][..., None], 3, axis=3) if colour else IMAGES[arm]
    rows = [
        {"file_name": f"gen_{i:03d}.png", "label": NAMES[label], "chroma": len(arm) + i}
        for i, label in enumerate(INTENDED[arm])
    ]
    write_images(folder, images, rows)


def write_subset(folder: Path, subset: list[int], caption: str) -> None:
    rows = []
    for i in subset:
        image_id, truth = f"phantom_train_{i:06d}", NAMES[LABELS["train"][i]]
        row = {"file_name": f"images/{image_id}.png", "image_id": image_id}
        rows.append(row | {"label": caption or truth, "ground_truth": truth})
    write_images(folder, IMAGES["train"][subset], rows)


def write_images(folder: Path, images: np.ndarray, rows: list[dict]) -> None:
    for row, image in zip(rows, images, strict=True):
        write_png(folder / row["file_name"], image)
    write_rows(folder / "metadata.jsonl", rows)


def faults(copied_val: np.ndarray | tuple) -> pd.DataFrame:
    """A train image repeats the val image `DUPLICATE`, and ``copied_val`` repeat the same train image."""
    train, val = "phantom_train_000099", "phantom_val_{:06d}"
    columns = ["image_id", "split", "twin", "twin_split"]
    rows = [(train, "train", val.format(DUPLICATE), "val")]
    rows += [(val.format(i), "val", val.format(DUPLICATE), "train") for i in copied_val]
    return pd.DataFrame(rows, columns=columns)
