"""Inputs of a report: three images per class and arm, each with its own grey level."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vdm_pipeline.io.images import write_png
from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.io.tables import write_csv, write_json, write_rows
from vdm_pipeline.stages.report.page import ReportInputs, render_report
from vdm_pipeline.stages.report.plots.figure import save_figure
from vdm_pipeline.stages.report.plots.images import image_figures
from vdm_pipeline_tests.stages.report.example import CLASS_NAMES, LABEL_METRICS, image_metrics

HOSTILE = "<img src=x onerror=alert(1)>"
ARMS = {"baseline": "lcm", "generated": "lcm", "extra/dpm25": "dpm"}
"""Scheduler by folder."""


@pytest.fixture(scope="session")
def image_plots(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("image_plots")
    for name, figure in image_figures(image_metrics(), CLASS_NAMES).items():
        save_figure(figure, folder / f"{name}.png")
    return folder


@pytest.fixture
def inputs(tmp_path: Path, tiny, image_plots) -> ReportInputs:
    _write_pictures(tmp_path)
    _write_tables(tmp_path)
    folders = ("label_plots", "subset", "lora", "generated", "baseline", "extra")
    return ReportInputs(
        profile=tiny,
        manifests={name: _manifest(name) for name in ("generated_images", "lora_weights")},
        summary=tmp_path / "summary.json",
        label_metrics=tmp_path / "labels.json",
        image_metrics=tmp_path / "images.json",
        image_plots=image_plots,
        faults=tmp_path / "faults.json",
        suspects=tmp_path / "suspects.csv",
        **{name: tmp_path / name for name in folders},
        real_images={name: np.zeros((4, 64, 64), np.uint8) for name in CLASS_NAMES},
        suspect_images=np.zeros((2, 28, 28), np.uint8),
        held_out_images={f"held_{i}": np.full((28, 28), i, np.uint8) for i in range(3)},
    )


@pytest.fixture
def page(inputs: ReportInputs, tmp_path: Path) -> str:
    return rendered(inputs, tmp_path)


def rendered(inputs: ReportInputs, folder: Path) -> str:
    render_report(folder / "index.html", inputs)
    return (folder / "index.html").read_text(encoding="utf-8")


def _write_pictures(folder: Path) -> None:
    for index, (arm, scheduler) in enumerate(ARMS.items()):
        _write_arm(folder / arm, 60 * index, scheduler)
    write_json(folder / "extra/arms.json", ["dpm25"])
    write_png(folder / "subset/images/a.png", np.zeros((64, 64), np.uint8))
    row = {"file_name": "images/a.png", "image_id": "a", "text": HOSTILE, "ground_truth": HOSTILE}
    write_rows(folder / "subset/metadata.jsonl", [row])
    for plot in ("label_plots/roc.png", "label_plots/scores.png", "lora/loss.png"):
        write_png(folder / plot, np.zeros((4, 4), np.uint8))


def _write_tables(folder: Path) -> None:
    suspects = {
        "image_id": [HOSTILE, "null"],
        "label": [HOSTILE, "normal"],
        "suggested": ["normal", "pneumonia"],
        "quality": [0.1, 0.2],
    }
    write_csv(folder / "suspects.csv", pd.DataFrame(suspects))
    faults = {"duplicate": {"train": 18, "train also in val": 8, "test": 3}}
    classes = {"val": {"normal": 135, "pneumonia": 389}}
    write_json(folder / "faults.json", {"faults": faults, "classes": classes})
    models = {"base": {"id": HOSTILE, "sha256": "ab" * 32, "licence": HOSTILE}}
    write_json(folder / "summary.json", {"num_generated": 6, "models": models})
    write_json(folder / "labels.json", LABEL_METRICS)
    write_json(folder / "images.json", image_metrics())


def _write_arm(folder: Path, grey: int, scheduler: str) -> None:
    rows = []
    for index in range(6):
        name = f"gen_{index:03d}.png"
        write_png(folder / name, np.full((64, 64), 10 * index + grey, np.uint8))
        settings = {"prompt": HOSTILE, "seed": 42 + index, "steps": 2, "scheduler": scheduler}
        rows.append({"file_name": name, "label": CLASS_NAMES[index // 3], **settings})
    write_rows(folder / "metadata.jsonl", rows)


def _manifest(asset: str) -> Manifest:
    files = {f"results/{asset}/metadata.jsonl": "0123456789abcdef" * 4, f"results/{asset}/a.png": "f" * 64}
    return Manifest(
        asset=asset,
        fingerprint="",
        code_version="2-c0de",
        data_version="da7a5e7510000000",
        versions={"pixels": "abc", "records": "def"},
        inputs={"raw_npz.labels": "12345678abcdef00"},
        files=files,
        settings={},
        metadata={"n": 6, "images_per_s": 41.5},
        seconds=12.25,
        peak_memory_mb=321.5,
    )
