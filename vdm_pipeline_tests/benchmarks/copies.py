"""What is said of generators that copy, in many draws: ``python -m vdm_pipeline_tests.benchmarks.copies ARCHIVE.npz [--draws 25]``.

Each draw takes 400 training images a class and 100 new ones a class from train, and replaces a share of the new ones; printed is
in how many draws the images are said to be copies (``some``), to be none, or that it is not clear.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from vdm_pipeline.io.images import resize
from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.data.archive import Archive, read_archive
from vdm_pipeline.stages.data.quality import image_hashes
from vdm_pipeline.stages.evaluation.check_outcomes import find_copies
from vdm_pipeline.stages.evaluation.duplicates import pixel_copies
from vdm_pipeline.stages.evaluation.features import Space, handcrafted
from vdm_pipeline.stages.evaluation.memorisation import memorisation
from vdm_pipeline.stages.evaluation.neighbours import Neighbours, whitened_features
from vdm_pipeline.stages.evaluation.real_images import RealImages, reference_images
from vdm_pipeline.stages.evaluation.to_json import space_memorisation_json
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline_tests.benchmarks.planted import PER_CLASS, SIZE
from vdm_pipeline_tests.planted import add_noise, blur

COPIED_PER_CLASS = 400
Images = np.ndarray


def partly(new: Images, train: Images, share: float, change: Callable[[Images], Images]) -> Images:
    """New images, a share of them replaced by changed training images, both classes alike."""
    count = round(share * len(new))
    rows, chosen = (np.linspace(0, len(images) - 1, count).astype(int) for images in (new, train))
    images = new.copy()
    images[rows] = change(train[chosen])
    return images


def generators(new: Images, train: Images, seed: int) -> dict[str, Images]:
    """Images in the place of a model's, by what is wrong with them."""
    turned = [ndimage.rotate(image, 5, reshape=False, mode="nearest") for image in train[: len(new)]]
    return {
        "new images": new,
        "new images, blurred": blur(new),
        "3 % copies with noise": partly(new, train, 0.03, lambda images: add_noise(images, seed)),
        "5 % copies with noise": partly(new, train, 0.05, lambda images: add_noise(images, seed)),
        "5 % copies of one image, with noise": partly(
            new, np.repeat(train[:1], len(new), 0), 0.05, lambda images: add_noise(images, seed)
        ),
        "one pixel-identical copy": partly(new, train, 1 / len(new), lambda images: images),
        "all copies, turned by 5 degrees": np.stack(turned),
        "all copies, upside down": train[: len(new), ::-1],
        "all copies, inverted": 255 - train[: len(new)],
    }


def twins(archive: Archive) -> pd.DataFrame:
    """Val images that also stand in train, pixel by pixel, as data_faults has them."""
    known = set(image_hashes(archive.splits["train"].images))
    ids = [
        name
        for name, key in zip(
            archive.image_ids("val"), image_hashes(archive.splits["val"].images), strict=True
        )
        if key in known
    ]
    return pd.DataFrame({"image_id": ids, "split": "val", "twin": "", "twin_split": "train"})


def main() -> None:
    """Print one row a generator."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--draws", type=int, default=25)
    asked = parser.parse_args()
    profile = load_profile("pneumoniamnist")
    archive = read_archive(asked.archive, profile.data, profile.classes.names)
    labels, held_out = archive.splits["train"].labels, reference_images(archive, twins(archive), SIZE)
    once = np.unique(image_hashes(archive.splits["train"].images), return_index=True)[
        1
    ]  # a repeated film would be a copy of itself
    labeller = ZeroShot(EMBEDDED / "clip", torch.device("cpu"))
    real = resize(archive.splits["train"].images, SIZE)
    spaces = {
        "labeller": Space("embeddings of the labeller", labeller.embed),
        "independent": handcrafted(real, 0),
    }
    evaluation = profile.evaluation.model_copy(update={"bootstrap": 20})
    said: dict[str, Counter[str]] = {}
    for seed in range(asked.draws):
        rng = np.random.default_rng(seed)
        order = [rng.permutation(np.intersect1d(np.flatnonzero(labels == label), once)) for label in (0, 1)]
        train = RealImages.from_split(
            archive, "train", np.concatenate([rows[:COPIED_PER_CLASS] for rows in order]), SIZE
        )
        new = RealImages.from_split(
            archive, "train", np.concatenate([rows[COPIED_PER_CLASS:][:PER_CLASS] for rows in order]), SIZE
        )
        arms = generators(new.images, train.images, seed)
        found: dict[str, dict] = {
            name: {"duplicates": {"of_training": pixel_copies(images, train.images)}}
            for name, images in arms.items()
        }
        for name, space in spaces.items():
            features = whitened_features(space, train.images, held_out.images, arms)
            for arm in arms:
                near = Neighbours.from_features(features, arm)
                figures = memorisation(near, train.labels, held_out.labels, evaluation)
                found[arm][name] = space_memorisation_json(figures)
        for arm, values in found.items():
            said.setdefault(arm, Counter())[
                find_copies({"arms": {"lora": values}}, profile.checks.max_copied).state
            ] += 1
    print("| images | copies | not clear | none |\n|---|---|---|---|")
    for arm, states in said.items():
        print(f"| {arm} | {states['some']} | {states['unclear']} | {states['none']} |")


if __name__ == "__main__":
    main()
