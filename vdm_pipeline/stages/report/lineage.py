"""Tables of the lineage and the cost of each asset, from the manifests."""

from collections.abc import Mapping
from typing import Any

from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.stages.report.formatting import NOT_MEASURED, number
from vdm_pipeline.stages.report.tables import Block, Cell, Row, Table

HASH_DIGITS = 12
"""Digits of a SHA-256 that are shown."""
IMAGE_ASSETS = ("generated_images", "baseline_images", "extra_images")


def lineage_table(manifests: Mapping[str, Manifest]) -> Table:
    """One row per asset: versions of data and code, inputs, and files with the start of their SHA-256."""
    rows = [
        Row(
            name,
            [
                Cell(manifest.data_version),
                Cell(manifest.code_version),
                _inputs_cell(manifest),
                _files_cell(manifest),
            ],
        )
        for name, manifest in manifests.items()
    ]
    columns = ["data version", "code version", "inputs", "files, SHA-256"]
    return Table("Versions, inputs and files of each asset", columns, _blocks(rows, len(columns)))


def cost_table(manifests: Mapping[str, Manifest]) -> Table:
    """Seconds and peak memory; for generation and training also images per second."""
    rows = [
        Row(name, [Cell(number(item.seconds)), Cell(number(item.peak_memory_mb)), Cell(_speed(item))])
        for name, item in manifests.items()
    ]
    if manifests:
        total = sum(manifest.seconds for manifest in manifests.values())
        rows.append(Row("total", [Cell(number(total)), Cell(""), Cell("")]))
    columns = ["seconds", "peak process memory, MB", "images per second"]
    return Table("Cost of each asset", columns, _blocks(rows, len(columns)))


def images_per_second(manifest: Manifest) -> float | None:
    """Measured speed of training or generation.

    None for other assets, and where images of an earlier run were reused.
    """
    metadata: dict[str, Any] = manifest.metadata
    if manifest.asset == "lora_weights":
        return metadata.get("images_per_s")
    if manifest.asset not in IMAGE_ASSETS:
        return None
    suffixes = [key.removeprefix("n") for key in metadata if key == "n" or key.startswith("n_")]
    if not suffixes or not all(metadata.get(f"images_per_s{suffix}") for suffix in suffixes):
        return None
    seconds = sum(metadata[f"n{suffix}"] / metadata[f"images_per_s{suffix}"] for suffix in suffixes)
    return sum(metadata[f"n{suffix}"] for suffix in suffixes) / seconds


def _speed(manifest: Manifest) -> str:
    speed = images_per_second(manifest)
    return "" if speed is None else number(float(speed))


def _inputs_cell(manifest: Manifest) -> Cell:
    return Cell("\n".join(f"{name} {version[:8]}" for name, version in manifest.inputs.items()))


def _files_cell(manifest: Manifest) -> Cell:
    """Each file that is not a PNG, and the number of PNGs."""
    lines = [
        f"{name.rsplit('/', 1)[-1]} {sha256[:HASH_DIGITS]}"
        for name, sha256 in manifest.files.items()
        if not name.endswith(".png")
    ]
    n_png = sum(name.endswith(".png") for name in manifest.files)
    if n_png:
        lines.append(f"{n_png} PNG")
    return Cell("\n".join(lines))


def _blocks(rows: list[Row], n_columns: int) -> list[Block]:
    return [Block("", rows or [Row(NOT_MEASURED, [Cell("")] * n_columns)])]
