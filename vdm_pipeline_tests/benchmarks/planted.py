"""Measure image sets with known faults: ``python -m vdm_pipeline_tests.benchmarks.planted [ARCHIVE.npz]``.

Uses rendered phantoms without an archive. Prints the table of docs/evaluation.md.
"""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vdm_pipeline.io.images import resize
from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline.stages.data.archive import Archive, obtain_archive, read_archive
from vdm_pipeline.stages.evaluation.check_outcomes import find_copies
from vdm_pipeline.stages.evaluation.comparison import compare
from vdm_pipeline.stages.evaluation.copy_search import search_copies
from vdm_pipeline.stages.evaluation.estimate import Estimate
from vdm_pipeline.stages.evaluation.features import Space, handcrafted
from vdm_pipeline.stages.evaluation.image_names import ImageNames
from vdm_pipeline.stages.evaluation.judge import train_judge
from vdm_pipeline.stages.evaluation.measured_images import ImageMeasurer
from vdm_pipeline.stages.evaluation.real_images import RealImages, reference_images
from vdm_pipeline.stages.evaluation.results import ArmMemorisation, ArmMetrics, GroupMetrics, SingleCopies
from vdm_pipeline.stages.evaluation.spaces import INDEPENDENT, LABELLER, SPACES
from vdm_pipeline.stages.evaluation.to_json import space_memorisation_json
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline_tests.planted import PlantedSets

SIZE, PER_CLASS, TRAIN_PER_CLASS = 64, 100, 300
CONTROL = "real images"
NO_FAULTS = pd.DataFrame({"image_id": [], "split": [], "twin": [], "twin_split": []}, dtype=object)
COLUMNS = (
    "images",
    "KID, labeller",
    "KID, independent",
    "sharpness",
    "judge agrees",
    "MS-SSIM",
    "recall",
    "copied",
    "differs from real in",
)


@dataclass(frozen=True)
class Result:
    """All figures of one image set."""

    metrics: ArmMetrics
    memorisation: ArmMemorisation
    single_copies: SingleCopies

    @property
    def overall(self) -> GroupMetrics:
        """Metrics of all classes together."""
        return self.metrics.overall


def sample_sets(
    archive: Archive, per_class: int, train_per_class: int, seed: int = 0
) -> tuple[RealImages, RealImages, PlantedSets]:
    """Disjoint random images of train: a training subset, a control, and planted sets."""
    labels = archive.splits["train"].labels
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = [order[labels[order] == label] for label in (0, 1)]
    counts = (train_per_class, per_class, per_class, per_class)
    stops = np.cumsum(counts)
    subset, control, unseen, more_unseen = (
        RealImages.from_split(
            archive, "train", np.concatenate([rows[stop - count : stop] for rows in by_class]), SIZE
        )
        for count, stop in zip(counts, stops, strict=True)
    )
    copied = np.concatenate([np.flatnonzero(subset.labels == label)[:per_class] for label in (0, 1)])
    planted = PlantedSets(
        train=(subset.images[copied], subset.labels[copied]),
        unseen=(unseen.images, unseen.labels),
        more_unseen=(more_unseen.images, more_unseen.labels),
        seed=seed,
    )
    return subset, control, planted


def make_measurer(archive: Archive, profile: Profile) -> ImageMeasurer:
    """A judge and both feature spaces, from the train split."""
    device, train = torch.device("cpu"), archive.splits["train"]
    labeller = ZeroShot(EMBEDDED / "clip", device)
    spaces = {
        LABELLER: Space("embeddings of the labeller", labeller.embed),
        INDEPENDENT: handcrafted(resize(train.images, SIZE), 0),
    }
    epochs = profile.evaluation.judge_epochs
    judge = train_judge(train.images, train.labels, classes=2, epochs=epochs, seed=0, device=device)
    return ImageMeasurer(judge, spaces)


def measure(archive: Archive, profile: Profile, per_class: int, train_per_class: int) -> dict[str, Result]:
    """Metrics and memorisation of real images and of each planted set."""
    measurer = make_measurer(archive, profile)
    subset, control, planted = sample_sets(archive, per_class, train_per_class)
    held_out = reference_images(archive, NO_FAULTS, SIZE)
    reference = measurer.measure_real(held_out)
    sets = {CONTROL: (control.images, control.labels), **planted.by_name()}
    measured = {name: measurer.measure(*image_set) for name, image_set in sets.items()}
    names = ImageNames([f"{row}.png" for row in range(2 * per_class)], subset.ids, held_out.ids)
    search = search_copies(
        measured, measurer.measure_real(subset), reference, names, measurer.spaces, profile.evaluation
    )
    return {
        name: Result(
            compare(images, reference, profile.classes.names, profile.evaluation),
            search.arms[name],
            replace(
                search.single_copies, found=[copy for copy in search.single_copies.found if copy.arm == name]
            ),
        )
        for name, images in measured.items()
    }


def faults_found(result: Result, real: Result, max_copied: float) -> list[str]:
    """The metrics that differ from those of real images beyond their intervals."""
    found = _kid_faults(result.metrics, real.metrics)
    single = {
        "sharpness": [r.overall.means.sharpness for r in (result, real)],
        "MS-SSIM": [r.overall.ms_ssim for r in (result, real)],
        "label agreement": [r.overall.means.label_agreement for r in (result, real)],
    }
    found += [title for title, (a, b) in single.items() if _is_above(a, b) or _is_above(b, a)]
    for space in SPACES:
        metrics, expected = result.overall.spaces[space], real.overall.spaces[space]
        lower = {
            "recall": _is_above(expected.recall, metrics.recall),
            "coverage": _is_above(expected.coverage, metrics.coverage),
        }
        found += [f"{name} ({space})" for name, is_lower in lower.items() if is_lower]
    if find_copies(_to_json(result), max_copied).state == "some":
        found.append("memorisation")
    if result.memorisation.duplicates.exact:
        found.append("duplicates")
    return found


def _kid_faults(metrics: ArmMetrics, real: ArmMetrics) -> list[str]:
    groups = {"": (metrics.overall, real.overall)}
    groups |= {f" of {name}": (metrics.by_class[name], real.by_class[name]) for name in real.by_class}
    return [
        f"KID{title} ({space})"
        for title, (group, real_group) in groups.items()
        for space in SPACES
        if _is_above(group.spaces[space].kid, real_group.spaces[space].kid)
    ]


def _is_above(a: Estimate, b: Estimate) -> bool:
    return a.ci95[0] > b.ci95[1]


def _to_json(result: Result) -> dict:
    """The part of image_metrics.json that `find_copies` reads."""
    memorisation = result.memorisation
    spaces = {name: space_memorisation_json(space) for name, space in memorisation.spaces.items()}
    lora = {"duplicates": {"of_training": memorisation.duplicates.of_training}, **spaces}
    return {"arms": {"lora": lora}, "single_copies": asdict(result.single_copies)}


def print_table(results: Mapping[str, Result], max_copied: float) -> None:
    """One row per image set."""
    print(f"| {' | '.join(COLUMNS)} |")
    print("|---" * len(COLUMNS) + "|")
    for name, result in results.items():
        overall = result.overall
        copied = max(space.figures.copied.value for space in result.memorisation.spaces.values())
        faults = faults_found(result, results[CONTROL], max_copied)
        cells = [
            name,
            *(f"{overall.spaces[space].kid.value:.3f}" for space in SPACES),
            f"{overall.means.sharpness.value:.0f}",
            f"{overall.means.label_agreement.value:.0%}",
            f"{overall.ms_ssim.value:.2f}",
            f"{overall.spaces[INDEPENDENT].recall.value:.2f}",
            f"{copied:.1%}",
            ", ".join(faults) or "nothing",
        ]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    """Measure and print."""
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    profile = load_profile("pneumoniamnist" if given else "demo")
    with tempfile.TemporaryDirectory() as folder:
        path = given or obtain_archive(profile.data, Path(folder), print)
        archive = read_archive(path, profile.data, profile.classes.names)
        results = measure(archive, profile, PER_CLASS, TRAIN_PER_CLASS)
    print_table(results, profile.checks.max_copied)


if __name__ == "__main__":
    main()
