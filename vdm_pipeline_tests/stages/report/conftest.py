"""A fabricated run: three images a class and arm, each of a grey of its own."""

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
from vdm_pipeline_tests.stages.report.example import LABELS, NAMES, filled

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def image_plots(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("image_plots")
    for name, figure in image_figures(filled(), NAMES).items():
        save_figure(figure, folder / f"{name}.png")
    return folder


@pytest.fixture
def run(tmp_path: Path, tiny, image_plots) -> ReportInputs:
    arms = {
        "baseline": ("baseline", "lcm"),
        "generated": ("generated", "lcm"),
        "dpm25": ("extra/dpm25", "dpm"),
    }
    for shift, (folder, scheduler) in enumerate(arms.values()):
        _arm(tmp_path / folder, shift, scheduler)
    write_json(tmp_path / "extra/arms.json", ["dpm25"])
    write_png(tmp_path / "subset/images/a.png", np.zeros((64, 64), np.uint8))
    write_rows(
        tmp_path / "subset/metadata.jsonl",
        [{"file_name": "images/a.png", "text": HOSTILE, "ground_truth": HOSTILE}],
    )
    for picture in ("label_plots/roc.png", "label_plots/scores.png", "lora/loss.png"):
        write_png(tmp_path / picture, np.zeros((4, 4), np.uint8))
    suspects = {
        "image_id": [HOSTILE, "null"],
        "label": [HOSTILE, "normal"],
        "suggested": ["normal", "pneumonia"],
        "quality": [0.1, 0.2],
    }
    write_csv(tmp_path / "suspects.csv", pd.DataFrame(suspects))
    faults = {"duplicate": {"train": 18, "train also in val": 8, "test": 3}}
    write_json(
        tmp_path / "faults.json", {"faults": faults, "classes": {"val": {"normal": 135, "pneumonia": 389}}}
    )
    write_json(
        tmp_path / "summary.json",
        {"num_generated": 6, "models": {"base": {"id": HOSTILE, "sha256": "ab" * 32, "licence": HOSTILE}}},
    )
    write_json(tmp_path / "labels.json", LABELS)
    write_json(tmp_path / "images.json", filled())
    folders = ("label_plots", "subset", "lora", "generated", "baseline", "extra")
    return ReportInputs(
        profile=tiny,
        manifests={"generated_images": _record("generated_images"), "lora_weights": _record("lora_weights")},
        summary=tmp_path / "summary.json",
        label_metrics=tmp_path / "labels.json",
        image_metrics=tmp_path / "images.json",
        image_plots=image_plots,
        faults=tmp_path / "faults.json",
        suspects=tmp_path / "suspects.csv",
        **{name: tmp_path / name for name in folders},
        real={name: np.zeros((4, 64, 64), np.uint8) for name in NAMES},
        doubted=np.zeros((2, 28, 28), np.uint8),
        held_out={f"held_{i}": np.full((28, 28), i, np.uint8) for i in range(2)},
    )


@pytest.fixture
def page(run: ReportInputs, tmp_path: Path) -> str:
    return rendered(run, tmp_path)


def rendered(run: ReportInputs, folder: Path) -> str:
    render_report(folder / "index.html", run)
    return (folder / "index.html").read_text(encoding="utf-8")


def _arm(folder: Path, shift: int, scheduler: str) -> None:
    rows = []
    for index in range(6):
        write_png(folder / f"gen_{index:03d}.png", np.full((64, 64), 10 * index + 60 * shift, np.uint8))
        facts = {"prompt": HOSTILE, "seed": 42 + index, "steps": 2, "scheduler": scheduler}
        rows.append({"file_name": f"gen_{index:03d}.png", "label": NAMES[index // 3], **facts})
    write_rows(folder / "metadata.jsonl", rows)


def _record(asset: str) -> Manifest:
    files = {f"results/{asset}/metadata.jsonl": "0123456789abcdef" * 4, f"results/{asset}/a.png": "f" * 64}
    return Manifest(
        asset=asset,
        fingerprint="",
        code_version="2-c0de",
        data_version="da7a5e7510000000",
        inputs={"raw_npz": "12345678abcdef00"},
        files=files,
        settings={},
        metadata={"n": 6, "images_per_s": 41.5},
        seconds=12.25,
        peak_memory_mb=321.5,
    )
