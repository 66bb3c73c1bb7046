"""`report`: one self-contained HTML page from the files of the upstream assets."""

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
from vdm_pipeline.stages.evaluation.check_outcomes import describe_false_alarms
from vdm_pipeline.stages.report import pictures
from vdm_pipeline.stages.report.cautions import cautions
from vdm_pipeline.stages.report.closest_pairs import closest_pairs, single_copies
from vdm_pipeline.stages.report.formatting import NOT_MEASURED, number, proportion
from vdm_pipeline.stages.report.gallery import gallery
from vdm_pipeline.stages.report.image_tables import copies_table, metrics_table, paired_table, utility_table
from vdm_pipeline.stages.report.label_tables import fault_table, is_calibrated, label_table
from vdm_pipeline.stages.report.lineage import cost_table, lineage_table
from vdm_pipeline.stages.report.titles import OVERALL, SPACE_TITLES, group_title
from vdm_pipeline.stages.report.verdicts.colours import explain_colours
from vdm_pipeline.stages.report.verdicts.copies import MISSED_COPIES
from vdm_pipeline.stages.report.verdicts.glance import all_verdicts
from vdm_pipeline.stages.report.verdicts.verdict import Verdict

TEMPLATES = Path(__file__).parent / "templates"
MARKS = {"good": "✓", "bad": "✗", "mixed": "±", "unclear": "≈", "absent": "–"}
DATASET_TITLES = {
    "pneumoniamnist": "PneumoniaMNIST (real radiographs)",
    "chestmnist": "ChestMNIST (real radiographs)",
}


class NotMeasured(ChainableUndefined):
    """The text that a template shows for a value that the metric files lack."""

    def __str__(self) -> str:
        return NOT_MEASURED


@dataclass(frozen=True)
class ReportInputs:
    """Files of the upstream assets, their manifests by asset, and the real images that the page shows.

    Images are uint8, ``[h, w]`` or ``[h, w, 3]``. ``real_images`` are held-out ones ``[n, h, w]`` by class.
    ``suspect_images`` belong to the first `pictures.MAX_SUSPECTS` rows of ``suspects``. ``held_out_images``
    are those of `closest_pairs.held_out_ids`, by id.
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
    real_images: dict[str, NDArray[np.uint8]]
    suspect_images: NDArray[np.uint8]
    held_out_images: Mapping[str, NDArray[np.uint8]]

    @property
    def arms(self) -> dict[str, Path]:
        """Folders of all arms, by their names in image_metrics.json."""
        extra = {name: self.extra / name for name in read_json(self.extra / "arms.json")}
        return {"baseline": self.baseline, "lora": self.generated, **extra}


def render_report(path: Path, inputs: ReportInputs) -> list[Verdict]:
    """Write the page, which embeds every picture and loads nothing; returns its verdicts."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=NotMeasured,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "proportion": proportion,
        "false_alarms": describe_false_alarms,
    }
    context = _context(inputs)
    write_text(path, environment.get_template("report.html.j2").render(**context).lstrip())
    return context["verdicts"]


def data_title(data: Data) -> str:
    """What the images show: the first words of the page."""
    if data.source == "phantom":
        return "Rendered phantoms (no patient data)"
    return DATASET_TITLES.get(data.dataset, f"{data.dataset} (real images)")


def _context(inputs: ReportInputs) -> dict[str, Any]:
    profile, names = inputs.profile, inputs.profile.classes.names
    labels, images = read_json(inputs.label_metrics), read_json(inputs.image_metrics)
    faults = read_json(inputs.faults)
    cards = all_verdicts(labels, images, names, profile.checks.max_copied)
    return {
        "profile": profile,
        "data_title": data_title(profile.data),
        "phantom": profile.data.source == "phantom",
        "summary": read_json(inputs.summary),
        "verdicts": cards,
        "colours": explain_colours(cards, profile),
        "marks": MARKS,
        "missed_copies": MISSED_COPIES,
        "gallery": gallery(names, inputs.real_images, inputs.baseline, inputs.generated, inputs.extra),
        **_image_context(inputs, images),
        **_label_context(inputs, labels, faults),
        "subset_cards": pictures.subset_cards(inputs.subset),
        "loss_plots": pictures.embedded_plots(inputs.lora, pictures.LOSS_PLOTS),
        "lineage_table": lineage_table(inputs.manifests),
        "cost_table": cost_table(inputs.manifests),
    }


def _image_context(inputs: ReportInputs, images: dict[str, Any]) -> dict[str, Any]:
    """Tables, plots and pictures of the image metrics."""
    names, folder = inputs.profile.classes.names, inputs.image_plots
    pictured = inputs.arms, inputs.subset, inputs.held_out_images
    groups = (OVERALL, *names)
    return {
        "images": images,
        "image_tables": {group_title(group): metrics_table(images, group) for group in groups},
        "cautions": cautions(images),
        "paired_table": paired_table(images, groups),
        "copies_table": copies_table(images),
        "utility_table": utility_table(images, names),
        "single_copies": single_copies(images, *pictured),
        "closest_pairs": closest_pairs(images, *pictured),
        "space_titles": SPACE_TITLES,
        "image_plots": pictures.embedded_plots(folder, pictures.IMAGE_PLOTS),
        "paired_plots": pictures.embedded_plots(folder, pictures.PAIRED_PLOTS),
        "copies_plots": pictures.embedded_plots(folder, pictures.COPIES_PLOTS),
        "utility_plots": pictures.embedded_plots(folder, pictures.UTILITY_PLOTS),
    }


def _label_context(inputs: ReportInputs, labels: dict[str, Any], faults: dict[str, Any]) -> dict[str, Any]:
    """Tables, plots and pictures of the labels and of data issues."""
    used = {split: scores["true_labels"] for split, scores in labels.items() if "true_labels" in scores}
    return {
        "label_table": label_table(labels),
        "is_calibrated": is_calibrated(labels),
        "true_labels": used,
        "label_plots": pictures.embedded_plots(inputs.label_plots, pictures.LABEL_PLOTS),
        "fault_table": fault_table(faults, inputs.profile.subset.exclude),
        "class_counts": faults.get("classes", {}),
        **pictures.suspect_labels(inputs.suspects, inputs.suspect_images),
    }
