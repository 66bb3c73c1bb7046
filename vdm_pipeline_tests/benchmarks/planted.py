"""What the metrics say of generators whose faults are known: ``python -m vdm_pipeline_tests.benchmarks.planted [ARCHIVE.npz]``.

Without an archive, of rendered phantoms. Prints the table of docs/evaluation.md.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from vdm_pipeline.stages.evaluation.samples import Measures

from vdm_pipeline.io.images import resize
from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline.stages.data.archive import Archive, obtain_archive, read_archive
from vdm_pipeline.stages.evaluation.check_outcomes import find_copies
from vdm_pipeline.stages.evaluation.comparison import compare
from vdm_pipeline.stages.evaluation.features import Space, handcrafted
from vdm_pipeline.stages.evaluation.judge import train_judge
from vdm_pipeline.stages.evaluation.memorisation import (
    Neighbours,
    comparable,
    exact_duplicates,
    memorisation,
    pixel_copies,
)
from vdm_pipeline.stages.evaluation.real_images import RealImages, reference_images
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline_tests.planted import Planted

SIZE, PER_CLASS, COPIED_PER_CLASS = 64, 100, 300
NO_FAULTS = pd.DataFrame({"image_id": [], "split": [], "twin": [], "twin_split": []}, dtype=object)


def scenes(
    archive: Archive, per_class: int, copied_per_class: int, seed: int = 0
) -> tuple[RealImages, RealImages, Planted]:
    """A training subset, real images for the real row, and generators that know the subset and other real images."""
    labels = archive.splits["train"].labels
    order = np.random.default_rng(seed).permutation(len(labels))
    at = 0

    def take(count: int) -> RealImages:
        nonlocal at
        rows = np.concatenate([order[labels[order] == label][at : at + count] for label in (0, 1)])
        at += count
        return RealImages.of(archive, "train", rows, SIZE)

    subset, real, new, other = take(copied_per_class), take(per_class), take(per_class), take(per_class)
    first = np.concatenate([np.flatnonzero(subset.labels == label)[:per_class] for label in (0, 1)])
    planted = Planted(
        (subset.images[first], subset.labels[first]),
        (new.images, new.labels),
        (other.images, other.labels),
        seed,
    )
    return subset, real, planted


def measure(
    archive: Archive, profile: Profile, per_class: int, copied_per_class: int
) -> dict[str, dict[str, Any]]:
    """The metrics, memorisation and duplicates of real images and of each planted generator."""
    device, names, train = torch.device("cpu"), profile.classes.names, archive.splits["train"]
    labeller = ZeroShot(EMBEDDED / "clip", device)
    spaces = {
        "labeller": Space("embeddings of the labeller", labeller.embed),
        "independent": handcrafted(resize(train.images, SIZE), 0),
    }
    judge = train_judge(
        train.images, train.labels, classes=2, epochs=profile.evaluation.judge_epochs, seed=0, device=device
    )
    measures = Measures(judge, spaces)
    subset, real, planted = scenes(archive, per_class, copied_per_class)
    held_out = reference_images(archive, NO_FAULTS, SIZE)
    reference = measures.of(held_out.images, held_out.labels)
    sets = {"real images": (real.images, real.labels), **planted.all()}
    report: dict[str, dict[str, Any]] = {
        name: compare(measures.of(*images), reference, names, profile.evaluation)
        | {
            "exact_duplicates": exact_duplicates(images[0]),
            "memorization": {"duplicates": {"of_training": pixel_copies(images[0], subset.images)}},
        }
        for name, images in sets.items()
    }
    for space in spaces:
        features = comparable(
            spaces[space],
            subset.images,
            held_out.images,
            {name: images for name, (images, _) in sets.items()},
        )
        for name in sets:
            near = Neighbours.of(features, name)
            report[name]["memorization"][space] = memorisation(
                near, subset.labels, held_out.labels, profile.evaluation
            )
    return report


def faults_found(report: dict[str, Any], real: dict[str, Any], max_copied: float) -> list[str]:
    """Which metrics tell the images from real ones, beyond the intervals."""
    found = []
    for group, title in (("overall", ""), ("normal", " of normal"), ("pneumonia", " of pneumonia")):
        for space in ("labeller", "independent"):
            mine, theirs = (
                (r[group] if space == "labeller" else r[group][space])["kid"] for r in (report, real)
            )
            if mine["ci95"][0] > theirs["ci95"][1]:
                found.append(f"KID{title} ({space})")
    for key in ("sharpness", "ms_ssim", "label_agreement"):
        mine, theirs = (r["overall"][key]["ci95"] for r in (report, real))
        if mine[0] > theirs[1] or mine[1] < theirs[0]:
            found.append(key.replace("_", " ").replace("ms ssim", "MS-SSIM"))
    for space in ("labeller", "independent"):
        mine, theirs = (
            (r["overall"] if space == "labeller" else r["overall"][space]) for r in (report, real)
        )
        found += [
            f"{key} ({space})"
            for key in ("recall", "coverage")
            if mine[key]["ci95"][1] < theirs[key]["ci95"][0]
        ]
    if find_copies({"arms": {"lora": report["memorization"]}}, max_copied).state == "some":
        found.append("memorisation")
    return found + ["duplicates"] * bool(report["exact_duplicates"])


def main() -> None:
    """Print one row a generator."""
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    profile = load_profile("pneumoniamnist" if given else "demo")
    with tempfile.TemporaryDirectory() as folder:
        archive = read_archive(
            given or obtain_archive(profile.data, Path(folder), print), profile.data, profile.classes.names
        )
        report = measure(archive, profile, PER_CLASS, COPIED_PER_CLASS)
    print(
        "| images | KID, labeller | KID, independent | sharpness | judge agrees | MS-SSIM | recall | copied | told from real by |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, values in report.items():
        overall, second = values["overall"], values["overall"]["independent"]
        copied = max(
            values["memorization"][space]["copied"]["value"] for space in ("labeller", "independent")
        )
        cells = [
            *(f"{kid['value']:.3f}" for kid in (overall["kid"], second["kid"])),
            f"{overall['sharpness']['value']:.0f}",
            f"{overall['label_agreement']['value']:.0%}",
            f"{overall['ms_ssim']['value']:.2f}",
            f"{second['recall']['value']:.2f}",
            f"{copied:.1%}",
            ", ".join(faults_found(values, report["real images"], profile.checks.max_copied)) or "nothing",
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
