"""Everything that is measured of the generated images, in one dictionary."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import read_folder
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.data.archive import Archive
from vdm_pipeline.stages.data.grey import to_grey
from vdm_pipeline.stages.evaluation.comparison import compare
from vdm_pipeline.stages.evaluation.features import Space
from vdm_pipeline.stages.evaluation.judge import train_judge
from vdm_pipeline.stages.evaluation.memorisation import (
    PAIRS,
    Neighbours,
    closest_pairs,
    comparable,
    exact_duplicates,
    memorisation,
    pixel_copies,
    share_alike,
)
from vdm_pipeline.stages.evaluation.metrics.frechet import TRUSTED
from vdm_pipeline.stages.evaluation.pairs import compare_pairs
from vdm_pipeline.stages.evaluation.real_images import (
    RealImages,
    class_indices,
    control_images,
    reference_images,
    subset_images,
    unseen_images,
)
from vdm_pipeline.stages.evaluation.samples import Measures, Sample
from vdm_pipeline.stages.evaluation.utility import training_sets, utility

if TYPE_CHECKING:
    import pandas as pd
    import torch

Log = Callable[[str], None]


@dataclass(frozen=True)
class EvaluationInputs:
    """What is compared: the archive and its faults, the training subset, and the folders of the arms.

    ``arms`` holds ``baseline`` and ``lora``, made from one plan, and any extra arm under its name.
    """

    archive: Archive
    faults: "pd.DataFrame"
    subset: Path
    arms: Mapping[str, Path]
    class_names: Sequence[str]
    resolution: int


def evaluate(
    what: EvaluationInputs,
    spaces: Mapping[str, Space],
    evaluation: Evaluation,
    device: "torch.device",
    log: Log,
) -> dict[str, Any]:
    """Measure fidelity, pairs, memorisation and utility of the arms; ``spaces`` holds ``labeller`` and ``independent``.

    Fidelity is to val, without what also stands elsewhere; the judge is scored, and utility tested, on test. The row ``real``
    puts real images, which neither trained the adapter nor stand in val, in the place of an arm's; ``real_to_test`` compares
    the same images with test.
    """
    names, size = what.class_names, what.resolution
    planned = read_rows(what.arms["lora"] / "metadata.jsonl", ("file_name", "label"))
    counts = [sum(row["label"] == name for row in planned) for name in names]
    subset, captioned = subset_images(what.subset, names, size)
    reference_set = reference_images(what.archive, what.faults, size)
    fresh = control_images(what.archive, what.faults, set(subset.ids), counts, evaluation.seed, size)
    if len(fresh.ids) < len(planned):
        log(
            f"train has {len(fresh.ids)} images outside the subset for the {len(planned)} of the row 'real'; its intervals are wider"
        )
    absent = [name for label, name in enumerate(names) if counts[label] and label not in reference_set.labels]
    if absent:
        log(
            f"val holds no image of {', '.join(absent)}, so the arms cannot be compared with it overall, but only class by class"
        )
    log("training the judge")
    measures, judge = _measures(what, set(fresh.ids), spaces, evaluation, device)
    log("measuring the images")
    arms = {name: read_arm(folder, names, measures) for name, folder in what.arms.items()}
    train, reference, real = (_of(measures, images) for images in (subset, reference_set, fresh))
    unseen = unseen_images(what.archive, size)
    log("comparing with real images")
    report: dict[str, Any] = {
        "feature_spaces": {name: space.title for name, space in spaces.items()},
        "judge": judge,
        "reference": {
            "split": "val",
            "n": len(reference),
            "left_out": len(what.archive.splits["val"]) - len(reference),
            "absent": absent,
        },
        "fid_trusted_from": TRUSTED,
        "real": compare(real, reference, names, evaluation),
        "real_to_test": compare(real, _of(measures, unseen), names, evaluation),
        "baseline": compare(arms["baseline"], reference, names, evaluation),
        "lora": compare(arms["lora"], reference, names, evaluation),
        "extra": {
            name: compare(arm, reference, names, evaluation)
            for name, arm in arms.items()
            if name not in ("baseline", "lora")
        },
        "paired": compare_pairs(arms["baseline"], arms["lora"], reference, names, evaluation),
    }
    log("looking for copies of training images")
    report["memorization"] = _memorisation({"real": real, **arms}, train, reference, spaces, evaluation)
    names_of = ([row["file_name"] for row in planned], subset.ids, reference_set.ids)
    report["memorization"]["closest"] = {
        space: _named(pairs, *names_of) for space, pairs in report["memorization"]["closest"].items()
    }
    log("training classifiers on real and synthetic images")
    halves = {name: (to_grey(arms[name].images), arms[name].labels) for name in ("baseline", "lora")}
    sets = training_sets((to_grey(train.images), captioned), halves)
    report["utility"] = utility(sets, (unseen.images, unseen.labels), names, evaluation, device)
    return report


def read_arm(folder: Path, class_names: Sequence[str], measures: Measures) -> Sample:
    """Measure the images of an arm's folder; raises `PipelineError` if its table is damaged."""
    rows = read_rows(folder / "metadata.jsonl", ("file_name", "label"))
    if not all(isinstance(row.get("chroma"), int | float) for row in rows):
        raise PipelineError(
            f"{folder / 'metadata.jsonl'} lacks 'chroma', or it is no number; materialize its asset again."
        )
    labels = class_indices(rows, "label", class_names, folder)
    return measures.of(read_folder(folder, rows), labels, np.array([row["chroma"] for row in rows]))


def _memorisation(
    arms: Mapping[str, Sample],
    train: Sample,
    held_out: Sample,
    spaces: Mapping[str, Space],
    evaluation: Evaluation,
) -> dict[str, Any]:
    """Memorisation of each arm in each space, and duplicates within it; ``real``, if there is any, is the control that copied nothing."""
    arms = {name: arm for name, arm in arms.items() if len(arm)}
    found: dict[str, Any] = {
        name: {
            "duplicates": {
                "exact": exact_duplicates(arm.images),
                "of_training": pixel_copies(arm.images, train.images),
            }
        }
        for name, arm in arms.items()
    }
    closest = {}
    for space_name, space in spaces.items():
        features = comparable(
            space, train.images, held_out.images, {name: arm.images for name, arm in arms.items()}
        )
        pairs = []
        for name in arms:
            near = Neighbours.of(features, name)
            found[name][space_name] = memorisation(near, train.labels, held_out.labels, evaluation)
            found[name]["duplicates"][space_name] = (
                share_alike(features[name], features["real"]) if "real" in features else None
            )
            pairs += [{"arm": name, **pair} for pair in closest_pairs(near) if name != "real"]
        closest[space_name] = sorted(pairs, key=lambda pair: pair["nearness"])[:PAIRS]
    return {"arms": found, "closest": closest}


def _measures(
    what: EvaluationInputs,
    unseen: set[str],
    spaces: Mapping[str, Space],
    evaluation: Evaluation,
    device: "torch.device",
) -> tuple[Measures, dict[str, Any]]:
    """The judge, taught on train but for ``unseen`` with the true labels, with the spaces; and how good it is on test."""
    train, test = what.archive.splits["train"], what.archive.splits["test"]
    rows = np.array([name not in unseen for name in what.archive.image_ids("train")])
    judge = train_judge(
        train.images[rows],
        train.labels[rows],
        classes=len(what.class_names),
        epochs=evaluation.judge_epochs,
        seed=evaluation.seed,
        device=device,
    )
    card = {
        "kind": "small CNN",
        "trained_on": "real train split but for the row 'real', true labels",
        "n_train": int(rows.sum()),
        "accuracy_held_out": float((judge.probabilities(test.images).argmax(1) == test.labels).mean()),
        "n_held_out": len(test),
    }
    return Measures(judge, spaces), card


def _of(measures: Measures, real: RealImages) -> Sample:
    return measures.of(real.images, real.labels)


def _named(
    pairs: list[dict[str, Any]], files: list[str], train: list[str], held_out: list[str]
) -> list[dict[str, Any]]:
    """Pairs with the names of their files and images in the place of their rows."""
    return [
        {
            "arm": pair["arm"],
            "file_name": files[pair["generated"]],
            "train_image": train[pair["train"]],
            "held_out_image": held_out[pair["held_out"]],
            "nearness": pair["nearness"],
        }
        for pair in pairs
    ]
