"""`report`: one self-contained page from what the other stages wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.io.images import data_uri, file_uri, read_png, resize
from vdm_pipeline.io.tables import read_json, read_rows
from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.report.tables import (
    IMAGE_METRICS,
    LABEL_METRICS,
    NotMeasured,
    calibrated,
    fault_rows,
    groups,
    image_rows,
    label_rows,
    number,
)
from vdm_pipeline.stages.report.verdict import verdict

TEMPLATES = Path(__file__).parent / "templates"
COLUMNS = 8
"""Images a row of the gallery."""
PAIRED = ("label", "prompt", "seed", "steps")
"""What the two images of a pair must share."""
LABEL_PLOTS = ("roc", "reliability", "confusion", "scores")
SUSPECTS = 12
"""Doubted labels that are shown."""


@dataclass(frozen=True)
class ReportInputs:
    """Where the upstream stages' files stand.

    ``real`` holds held-out real images, uint8 ``[n, h, w]``, by class, and ``doubted`` those of the first `SUSPECTS` rows of
    ``suspects``.
    """

    profile: Profile
    summary: Path
    label_metrics: Path
    image_metrics: Path
    label_plots: Path
    faults: Path
    suspects: Path
    subset: Path
    lora: Path
    generated: Path
    baseline: Path
    real: dict[str, NDArray[np.uint8]]
    doubted: NDArray[np.uint8]


def render_report(path: Path, inputs: ReportInputs) -> None:
    """Write the page; every picture is inside it and nothing is fetched when it is opened."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=NotMeasured, trim_blocks=True)
    environment.filters["number"] = number
    page = environment.get_template("report.html.j2").render(**_context(inputs))
    write_text(path, page)


def _context(inputs: ReportInputs) -> dict[str, Any]:
    labels, images, faults = (read_json(path) for path in (inputs.label_metrics, inputs.image_metrics, inputs.faults))
    names = inputs.profile.classes.names
    return {
        "profile": inputs.profile,
        "phantom": inputs.profile.data.dataset == "phantom",
        "summary": read_json(inputs.summary),
        "images": images,
        "label_columns": LABEL_METRICS.values(),
        "label_rows": label_rows(labels),
        "calibrated": calibrated(labels),
        "true_labels": {split: scores["true_labels"] for split, scores in labels.items() if "true_labels" in scores},
        "image_columns": IMAGE_METRICS.values(),
        "image_tables": {group: image_rows(images, group) for group in groups(names)},
        "verdict": verdict(labels, images, names),
        "gallery": gallery(inputs),
        "subset": [
            {"uri": data_uri(read_png(inputs.subset, row["file_name"])), "text": row["text"], "truth": row["ground_truth"]}
            for row in _spread(read_rows(inputs.subset / "metadata.jsonl"), 12)
        ],
        "label_plots": [file_uri(path) for path in (inputs.label_plots / f"{name}.png" for name in LABEL_PLOTS) if path.is_file()],
        "loss": file_uri(inputs.lora / "loss.png") if (inputs.lora / "loss.png").is_file() else None,
        "faults": fault_rows(faults, inputs.profile.subset.leave_out),
        "class_counts": faults.get("classes", {}),
        **_suspects(inputs),
    }


def _suspects(inputs: ReportInputs) -> dict[str, Any]:
    """How many labels are doubted, and the worst with their images."""
    import pandas as pd

    table = pd.read_csv(inputs.suspects, dtype={"image_id": str, "label": str, "suggested": str}, keep_default_na=False)
    worst = table.head(SUSPECTS).to_dict("records")
    return {
        "n_suspects": len(table),
        "suspects": [row | {"uri": data_uri(image)} for row, image in zip(worst, inputs.doubted, strict=True)],
    }


def gallery(inputs: ReportInputs) -> list[dict[str, Any]]:
    """For each class: real images, and pairs of baseline and LoRA of the same index."""
    size = inputs.profile.training.resolution
    pairs = paired_rows(inputs.baseline, inputs.generated)
    blocks = []
    for name in inputs.profile.classes.names:
        rows = _spread([row for row in pairs if row["label"] == name], COLUMNS)
        real = inputs.real.get(name, np.empty((0, size, size), np.uint8))[:COLUMNS]
        blocks.append(
            {
                "label": name,
                "prompt": rows[0]["prompt"] if rows else "no images",
                "real": [data_uri(image) for image in (resize(real, size) if len(real) else real)],
                "pairs": [
                    {
                        "seed": row["seed"],
                        "baseline": data_uri(read_png(inputs.baseline, row["file_name"])),
                        "lora": data_uri(read_png(inputs.generated, row["file_name"])),
                    }
                    for row in rows
                ],
            }
        )
    return blocks


def paired_rows(baseline: Path, generated: Path) -> list[dict[str, Any]]:
    """Rows of ``generated``; raises `PipelineError` unless the baseline made each with the same label, prompt, seed and steps."""
    theirs = {row["file_name"]: row for row in read_rows(baseline / "metadata.jsonl")}
    rows = read_rows(generated / "metadata.jsonl")
    for row in rows:
        twin = theirs.get(row["file_name"], {})
        differing = [key for key in PAIRED if twin.get(key) != row.get(key)]
        if differing:
            raise PipelineError(
                f"{row['file_name']} in {baseline} and in {generated} differ in {', '.join(differing)}, so they are no pair; "
                "materialize baseline_images and generated_images again."
            )
    return rows


def _spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """``count`` rows evenly over the list, the first included; never a choice by looks."""
    step = max(1, len(rows) // count)
    return rows[::step][:count]
