"""`report`: one self-contained page from what the other stages wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.io.images import data_uri, read_png, resize
from vdm_pipeline.io.tables import read_json, read_rows
from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.report.plots import figure_uri, loss_figure, roc_figure, score_figure
from vdm_pipeline.stages.report.verdict import interval, verdict

TEMPLATES = Path(__file__).parent / "templates"
COLUMNS = 8
"""Images a row of the gallery."""


@dataclass(frozen=True)
class ReportInputs:
    """Where the upstream stages' files stand; ``real`` holds held-out real images, uint8 ``[n, h, w]``, by class."""

    profile: Profile
    summary: Path
    label_metrics: Path
    image_metrics: Path
    labels: Path
    subset: Path
    lora: Path
    generated: Path
    baseline: Path
    real: dict[str, NDArray[np.uint8]]


def render_report(path: Path, inputs: ReportInputs) -> None:
    """Write the page; every picture is inside it and nothing is fetched when it is opened."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["interval"] = interval
    page = environment.get_template("report.html.j2").render(**_context(inputs))
    write_text(path, page)


def _context(inputs: ReportInputs) -> dict[str, Any]:
    import pandas as pd

    labels, images = read_json(inputs.label_metrics), read_json(inputs.image_metrics)
    names, table = inputs.profile.classes.names, pd.read_csv(inputs.labels)
    plots = [score_figure(table, names), loss_figure(inputs.lora / "training_log.csv")]
    if len(names) == 2:
        plots.insert(0, roc_figure(table, names[1]))
    return {
        "profile": inputs.profile,
        "phantom": inputs.profile.data.dataset == "phantom",
        "summary": read_json(inputs.summary),
        "labels": labels,
        "images": images,
        "verdict": verdict(labels, images, names),
        "gallery": gallery(inputs),
        "subset": [
            {"uri": data_uri(read_png(inputs.subset, row["file_name"])), "text": row["text"], "truth": row["ground_truth"]}
            for row in _spread(read_rows(inputs.subset / "metadata.jsonl"), 12)
        ],
        "plots": [figure_uri(figure) for figure in plots],
    }


def gallery(inputs: ReportInputs) -> list[dict[str, Any]]:
    """For each class: real images, and pairs of baseline and LoRA of the same index."""
    size = inputs.profile.training.resolution
    blocks = []
    for name in inputs.profile.classes.names:
        rows = _spread([row for row in read_rows(inputs.generated / "metadata.jsonl") if row["label"] == name], COLUMNS)
        blocks.append(
            {
                "label": name,
                "prompt": rows[0]["prompt"],
                "real": [data_uri(image) for image in resize(inputs.real[name][:COLUMNS], size)],
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


def _spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """``count`` rows evenly over the list, the first included; never a choice by looks."""
    step = max(1, len(rows) // count)
    return rows[::step][:count]
