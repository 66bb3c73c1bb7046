"""How often single copies are found, and how often there is a false alarm.

``python -m vdm_pipeline_tests.benchmarks.single_copies [ARCHIVE.npz] [--subset FOLDER --generated FOLDER]``

Without an archive, real images are rendered phantoms. Each draw has other training, held-out and new images.
With ``--generated``, new images are drawn from that folder, and those of ``--subset`` trained the LoRA.
Prints one column of the table in docs/evaluation.md.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import beta

from vdm_pipeline.io.images import read_folder, resize
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline.stages.data.archive import obtain_archive, read_archive
from vdm_pipeline.stages.data.quality import image_hashes
from vdm_pipeline.stages.evaluation.class_matching import rows_with_class_shares
from vdm_pipeline.stages.evaluation.image_names import ImageNames
from vdm_pipeline.stages.evaluation.neighbours import Neighbours
from vdm_pipeline.stages.evaluation.pixels import PixelSpace, distances_in_any_orientation
from vdm_pipeline.stages.evaluation.real_images import class_indices
from vdm_pipeline.stages.evaluation.results import SingleCopies
from vdm_pipeline.stages.evaluation.single_copies import find_single_copies, ratio_limit
from vdm_pipeline_tests.copied import COPIES, HARDER_COPIES

PHANTOMS = 6000
Rows = np.ndarray


@dataclass(frozen=True)
class Pool:
    """All images with their classes, and which of them may be training, held-out or new ones."""

    images: np.ndarray
    labels: np.ndarray
    real: np.ndarray
    subset: np.ndarray
    generated: np.ndarray

    @classmethod
    def of(cls, profile: Profile, path: Path, folders: tuple[Path, Path] | None) -> "Pool":
        """Real images of train and val without repeated ones, and those of the two folders."""
        archive = read_archive(path, profile.data, profile.classes.names)
        splits = [archive.splits[name] for name in ("train", "val")]
        size = profile.training.resolution
        sources = [tuple(np.concatenate([getattr(s, key) for s in splits]) for key in ("images", "labels"))]
        for folder in folders or ():
            rows = read_rows(folder / "metadata.jsonl", ("file_name", "label"))
            key = "ground_truth" if "ground_truth" in rows[0] else "label"
            labels = class_indices(rows, key, profile.classes.names, folder)
            sources.append((read_folder(folder, rows), labels))
        source = np.repeat(np.arange(len(sources)), [len(labels) for _, labels in sources])
        images = np.concatenate([resize(images, size) for images, _ in sources])
        last_first = images[::-1]  # a training image of the folder stays, its twin in the archive does not
        unique = len(images) - 1 - np.unique(image_hashes(last_first), return_index=True)[1]
        is_unique = np.isin(np.arange(len(images)), unique)
        labels = np.concatenate([labels for _, labels in sources])
        return cls(images, labels, (source == 0) & is_unique, source == 1, source == 2)

    def draw(self, rng: np.random.Generator, n_train: int, held_out: list[int], n_new: int) -> list[Rows]:
        """Rows of training, held-out and new images, by their numbers of each class."""
        chosen: list[list[Rows]] = [[], [], []]
        for label, n_held_out in enumerate(held_out):
            rows = rng.permutation(np.flatnonzero(self.real & (self.labels == label)))
            train, rest = rows[:n_train], rows[n_train:]
            new = rest[n_held_out:]
            if self.generated.any():
                train, rest = np.flatnonzero(self.subset & (self.labels == label)), rows
                new = rng.permutation(np.flatnonzero(self.generated & (self.labels == label)))
            for part, part_rows in zip(chosen, (train, rest[:n_held_out], new[:n_new]), strict=True):
                part.append(part_rows)
        return [np.concatenate(part) for part in chosen]


class Trials:
    """Draws from a pool, of the profile's sizes."""

    def __init__(self, pool: Pool, profile: Profile, held_out: list[int], seed: int) -> None:
        self.pool, self.rng = pool, np.random.default_rng(seed)
        self.sizes = profile.subset.per_class, held_out, profile.generation.per_class

    def search(self, copy: Callable[[np.ndarray], np.ndarray] | None) -> tuple[SingleCopies, bool]:
        """Search one draw, with a copy of a training image if given; also whether exactly that was found."""
        train, held_out, new = self.pool.draw(self.rng, *self.sizes)
        images, planted = self.pool.images[new].copy(), self.rng.integers(len(new))
        copied = self.rng.integers(len(train))
        if copy:
            images[planted] = copy(self.pool.images[train[copied]][None])[0]
        sets = [(self.pool.images[rows], self.pool.labels[rows]) for rows in (train, held_out)]
        names = ImageNames(*([str(row) for row in range(len(rows))] for rows in (new, train, held_out)))
        result = find_single_copies({"lora": images}, *sets, names, 0)
        found = [(single.file_name, single.train_image) for single in result.found]
        return result, found == [(str(planted), str(copied))]

    def simulated_alarms(self, repetitions: int) -> int:
        """False alarms among many clean draws, with distances that are computed once."""
        images = self.pool.images
        space = PixelSpace(images[self.pool.real])
        distances = distances_in_any_orientation(space.flipped(images), space(images)).astype(np.float32)
        np.fill_diagonal(distances, np.inf)
        return sum(self._is_alarm(distances) for _ in range(repetitions))

    def _is_alarm(self, distances: np.ndarray) -> bool:
        train, held_out, new = self.pool.draw(self.rng, *self.sizes)
        labels = self.pool.labels
        held_out = held_out[rows_with_class_shares(labels[train], labels[held_out], 0)]
        near = Neighbours(
            *(distances[np.ix_(rows, columns)] for rows in (new, held_out) for columns in (train, held_out))
        )
        return bool(near.ratios().min() < ratio_limit(near.held_out_ratios(), len(new)))


def print_results(trials: Trials, copies: int, clean: int, simulated: int) -> None:
    """One row per kind of copy, then the false alarms with the upper end of their 95 % interval."""
    for name, copy in {**COPIES, **HARDER_COPIES}.items():
        print(f"| {name} | {sum(trials.search(copy)[1] for _ in range(copies))} of {copies} |", flush=True)
    results = [trials.search(None)[0] for _ in range(clean)]
    alarms = {"clean": (sum(bool(result.found) for result in results), clean)}
    alarms["clean, simulated"] = (trials.simulated_alarms(simulated), simulated)
    for name, (found, n) in alarms.items():
        upper = beta.ppf(0.95, found + 1, n - found)
        print(f"| {name} | {found} of {n}, at most {upper:.2%} |")
    limits = np.percentile([result.limit for result in results], [5, 95])
    sensitivity = min(result.sensitivity for result in results)
    print(f"limit {limits[0]:.2f} to {limits[1]:.2f}, smallest sensitivity {sensitivity:.1%}")


def main() -> None:
    """Print one column."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, nargs="?")
    parser.add_argument("--subset", type=Path)
    parser.add_argument("--generated", type=Path)
    parser.add_argument("--copies", type=int, default=25)
    parser.add_argument("--clean", type=int, default=200)
    parser.add_argument("--simulated", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    profile = load_profile("pneumoniamnist" if given.archive else "demo")
    held_out = [135, 389] if given.archive else [profile.data.val // 2] * 2
    with tempfile.TemporaryDirectory() as folder:
        # another seed than the project's, so that no phantom of its subset is among the new ones
        data = profile.data.model_copy(update={"train": PHANTOMS, "seed": profile.data.seed + 1})
        path = given.archive or obtain_archive(data, Path(folder), print)
        read = profile if given.archive else profile.model_copy(update={"data": data})
        pool = Pool.of(read, path, (given.subset, given.generated) if given.generated else None)
    print_results(Trials(pool, profile, held_out, given.seed), given.copies, given.clean, given.simulated)


if __name__ == "__main__":
    main()
