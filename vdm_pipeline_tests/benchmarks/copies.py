"""How often the search for copies is right: ``python -m vdm_pipeline_tests.benchmarks.copies ARCHIVE.npz``.

Each repetition takes 400 training images and 100 new images of each class from train, and replaces a share
of the new ones. The table counts the repetitions in which copies are found, not found, or unclear.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
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
from vdm_pipeline.stages.evaluation.image_names import ImageNames
from vdm_pipeline.stages.evaluation.memorisation import memorisation
from vdm_pipeline.stages.evaluation.neighbours import Neighbours, whitened_features
from vdm_pipeline.stages.evaluation.real_images import RealImages, reference_images
from vdm_pipeline.stages.evaluation.single_copies import find_single_copies
from vdm_pipeline.stages.evaluation.spaces import INDEPENDENT, LABELLER
from vdm_pipeline.stages.evaluation.to_json import space_memorisation_json
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline_tests.benchmarks.planted import PER_CLASS, SIZE
from vdm_pipeline_tests.planted import add_noise, blur

COPIED_PER_CLASS = 400
Images = np.ndarray


def partly(new: Images, train: Images, share: float, change: Callable[[Images], Images]) -> Images:
    """New images, a share of which is replaced by changed training images of both classes."""
    count = round(share * len(new))
    replaced = np.linspace(0, len(new) - 1, count).astype(int)
    copied = np.linspace(0, len(train) - 1, count).astype(int)
    images = new.copy()
    images[replaced] = change(train[copied])
    return images


def generators(new: Images, train: Images, seed: int) -> dict[str, Images]:
    """Images that replace those of a model, by their fault."""

    def noise(images: Images) -> Images:
        return add_noise(images, seed)

    copies = train[: len(new)]
    rotated = [ndimage.rotate(image, 5, reshape=False, mode="nearest") for image in copies]
    one_image = np.repeat(train[:1], len(new), 0)
    return {
        "new images": new,
        "new images, blurred": blur(new),
        "3 % copies with noise": partly(new, train, 0.03, noise),
        "5 % copies with noise": partly(new, train, 0.05, noise),
        "5 % copies of one image, with noise": partly(new, one_image, 0.05, noise),
        "one pixel-identical copy": partly(new, train, 1 / len(new), lambda images: images),
        "all copies, rotated by 5 degrees": np.stack(rotated),
        "all copies, upside down": copies[:, ::-1],
        "all copies, inverted": 255 - copies,
    }


def twins(archive: Archive) -> pd.DataFrame:
    """Val images with the pixels of a train image, in the form of ``data_faults``."""
    train_hashes = set(image_hashes(archive.splits["train"].images))
    pairs = zip(archive.image_ids("val"), image_hashes(archive.splits["val"].images), strict=True)
    ids = [name for name, image_hash in pairs if image_hash in train_hashes]
    return pd.DataFrame({"image_id": ids, "split": "val", "twin": "", "twin_split": "train"})


class CopySearch:
    """The search for copies on one archive, with the settings of the ``pneumoniamnist`` profile."""

    def __init__(self, path: Path) -> None:
        self.profile = load_profile("pneumoniamnist")
        self.archive = read_archive(path, self.profile.data, self.profile.classes.names)
        self.evaluation = self.profile.evaluation.model_copy(update={"bootstrap": 20})
        self.held_out = reference_images(self.archive, twins(self.archive), SIZE)
        images = self.archive.splits["train"].images
        self.unique_rows = np.unique(image_hashes(images), return_index=True)[1]
        """Rows without repeated X-rays, which would count as copies of themselves."""
        labeller = ZeroShot(EMBEDDED / "clip", torch.device("cpu"))
        self.spaces = {
            LABELLER: Space("embeddings of the labeller", labeller.embed),
            INDEPENDENT: handcrafted(resize(images, SIZE), 0),
        }

    def outcomes(self, seed: int) -> dict[str, str]:
        """``some``, ``unclear`` or ``none`` for every generator, for one random choice of images."""
        train, new = self._choose_images(seed)
        arms = generators(new.images, train.images, seed)
        figures: dict[str, dict] = {
            arm: {"duplicates": {"of_training": pixel_copies(images, train.images)}}
            for arm, images in arms.items()
        }
        for name, space in self.spaces.items():
            features = whitened_features(space, train.images, self.held_out.images, arms)
            for arm in arms:
                near = Neighbours.from_features(features, arm)
                found = memorisation(near, train.labels, self.held_out.labels, self.evaluation)
                figures[arm][name] = space_memorisation_json(found)
        limit = self.profile.checks.max_copied
        return {
            arm: find_copies(
                {"arms": {"lora": values}, "single_copies": self._single_copies(arms[arm], train)}, limit
            ).state
            for arm, values in figures.items()
        }

    def _single_copies(self, images: Images, train: RealImages) -> dict:
        """The test for single copies, on one set of images."""
        held_out = self.held_out
        names = ImageNames([str(row) for row in range(len(images))], train.ids, held_out.ids)
        real = (train.images, train.labels), (held_out.images, held_out.labels)
        return asdict(find_single_copies({"lora": images}, *real, names, 0))

    def _choose_images(self, seed: int) -> tuple[RealImages, RealImages]:
        """Training images and new images, as many of each class."""
        rng, labels = np.random.default_rng(seed), self.archive.splits["train"].labels
        rows = [
            rng.permutation(np.intersect1d(np.flatnonzero(labels == label), self.unique_rows))
            for label in (0, 1)
        ]
        train = np.concatenate([of_class[:COPIED_PER_CLASS] for of_class in rows])
        new = np.concatenate([of_class[COPIED_PER_CLASS:][:PER_CLASS] for of_class in rows])
        return (
            RealImages.from_split(self.archive, "train", train, SIZE),
            RealImages.from_split(self.archive, "train", new, SIZE),
        )


def main() -> None:
    """Print one row for each generator."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--repetitions", type=int, default=25)
    arguments = parser.parse_args()
    search = CopySearch(arguments.archive)
    counts: dict[str, Counter[str]] = {}
    for seed in range(arguments.repetitions):
        for arm, state in search.outcomes(seed).items():
            counts.setdefault(arm, Counter())[state] += 1
    print("| images | found | cannot tell | none found |\n|---|---|---|---|")
    for arm, states in counts.items():
        print(f"| {arm} | {states['some']} | {states['unclear']} | {states['none']} |")


if __name__ == "__main__":
    main()
