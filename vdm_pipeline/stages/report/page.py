"""`report`: one self-contained page from what the other stages wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChainableUndefined
from numpy.typing import NDArray

from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.io.tables import read_json
from vdm_pipeline.settings import Data, Profile
from vdm_pipeline.stages.report import pictures
from vdm_pipeline.stages.report.copies import closest
from vdm_pipeline.stages.report.gallery import gallery
from vdm_pipeline.stages.report.image_tables import (
    cautions,
    copies_table,
    group_title,
    metrics_table,
    paired_table,
    utility_table,
)
from vdm_pipeline.stages.report.lineage import cost_table, lineage_table
from vdm_pipeline.stages.report.tables import calibrated, fault_table, label_table
from vdm_pipeline.stages.report.verdicts.glance import verdicts
from vdm_pipeline.stages.report.wording import NOT_MEASURED, number

TEMPLATES = Path(__file__).parent / "templates"
MARKS = {"good": "✓", "bad": "✗", "mixed": "±", "open": "≈", "absent": "–"}
TAGS = {"good": "good", "bad": "poor", "mixed": "mixed", "open": "not clear", "absent": NOT_MEASURED}
KINDS = {"pneumoniamnist": "PneumoniaMNIST, real radiographs", "chestmnist": "ChestMNIST, real radiographs"}


class NotMeasured(ChainableUndefined):
    """What a template asks for and the inputs lack."""

    def __str__(self) -> str:
        return NOT_MEASURED


@dataclass(frozen=True)
class ReportInputs:
    """Where the upstream stages' files stand, and the records of their assets by name.

    ``real`` holds held-out real images, uint8 ``[n, h, w]``, by class; ``doubted`` those of the first `pictures.SUSPECTS` rows
    of ``suspects``; ``held_out`` those that `copies.held_out_ids` names, ``[h, w]`` by id. Colour images have a last axis of 3.
    """

    profile: Profile
    manifests: Mapping[str, Manifest]
    summary: Path
    label_metrics: Path
    image_metrics: Path
    label_plots: Path
    image_plots: Path
    faults: Path
    suspects: Path
    subset: Path
    lora: Path
    generated: Path
    baseline: Path
    extra: Path
    real: dict[str, NDArray[np.uint8]]
    doubted: NDArray[np.uint8]
    held_out: Mapping[str, NDArray[np.uint8]]

    @property
    def arms(self) -> dict[str, Path]:
        """Folders of all arms, by the names that they have in image_metrics.json."""
        extra = {name: self.extra / name for name in read_json(self.extra / "arms.json")}
        return {"baseline": self.baseline, "lora": self.generated, **extra}


def render_report(path: Path, inputs: ReportInputs) -> None:
    """Write the page; every picture is inside it and nothing is fetched when it is opened."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=NotMeasured,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    page = environment.get_template("report.html.j2").render(**_context(inputs))
    write_text(path, page.lstrip())


def ran_on(data: Data) -> str:
    """What the images are images of, in the first words of the page."""
    if data.source == "phantom":
        return "Rendered phantoms – no patient data"
    return KINDS.get(data.dataset, f"{data.dataset}, real images")


def _context(inputs: ReportInputs) -> dict[str, Any]:
    profile = inputs.profile
    labels, images, faults = (
        read_json(path) for path in (inputs.label_metrics, inputs.image_metrics, inputs.faults)
    )
    return {
        "profile": profile,
        "ran_on": ran_on(profile.data),
        "phantom": profile.data.source == "phantom",
        "summary": read_json(inputs.summary),
        "verdicts": verdicts(labels, images, profile.classes.names, profile.checks.max_copied),
        "marks": MARKS,
        "tags": TAGS,
        "gallery": gallery(
            profile.classes.names, inputs.real, inputs.baseline, inputs.generated, inputs.extra
        ),
        **_images(inputs, images),
        **_labels(inputs, labels, faults),
        "subset": pictures.learnt_from(inputs.subset),
        "loss": pictures.plots(inputs.lora, {"loss": "loss of training and held-out images by step"}),
        "lineage_table": lineage_table(inputs.manifests),
        "cost_table": cost_table(inputs.manifests),
    }


def _images(inputs: ReportInputs, images: dict[str, Any]) -> dict[str, Any]:
    """What is measured of the generated images."""
    names, folder = inputs.profile.classes.names, inputs.image_plots
    return {
        "images": images,
        "image_tables": {group_title(group): metrics_table(images, group) for group in ("overall", *names)},
        "cautions": cautions(images),
        "paired_table": paired_table(images, ("overall", *names)),
        "copies_table": copies_table(images),
        "utility_table": utility_table(images, names),
        "closest": closest(images, inputs.arms, inputs.subset, inputs.held_out),
        "image_plots": pictures.plots(folder, pictures.IMAGE_PLOTS),
        "paired_plots": pictures.plots(folder, pictures.PAIRED_PLOTS),
        "copies_plots": pictures.plots(folder, pictures.COPIES_PLOTS),
        "utility_plots": pictures.plots(folder, pictures.UTILITY_PLOTS),
    }


def _labels(inputs: ReportInputs, labels: dict[str, Any], faults: dict[str, Any]) -> dict[str, Any]:
    """What is measured of the labels and of the archive."""
    return {
        "label_table": label_table(labels),
        "calibrated": calibrated(labels),
        "true_labels": {
            split: scores["true_labels"] for split, scores in labels.items() if "true_labels" in scores
        },
        "label_plots": pictures.plots(inputs.label_plots, pictures.LABEL_PLOTS),
        "fault_table": fault_table(faults, inputs.profile.subset.exclude),
        "class_counts": faults.get("classes", {}),
        **pictures.doubted(inputs.suspects, inputs.doubted),
    }
