"""Tables of the lineage and the cost of each asset, from the manifests."""

from collections.abc import Mapping
from typing import Any

from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.stages.report.formatting import NOT_MEASURED, number
from vdm_pipeline.stages.report.tables import Block, Cell, Row, Table

IMAGE_ASSETS = ("generated_images", "baseline_images", "extra_images")


def lineage_table(manifests: Mapping[str, Manifest]) -> Table:
    """One row per asset: its data versions by part, its code version, and the parts that it read."""
    rows = [
        Row(
            name,
            [
                _versions_cell(manifest.versions),
                Cell(manifest.code_version),
                _versions_cell(manifest.inputs),
            ],
        )
        for name, manifest in manifests.items()
    ]
    columns = ["data versions", "code version", "inputs"]
    return Table("Versions and inputs of each asset", columns, _blocks(rows, len(columns)))


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


def _versions_cell(versions: Mapping[str, str]) -> Cell:
    return Cell("\n".join(f"{name} {version}" for name, version in versions.items()))


def _blocks(rows: list[Row], n_columns: int) -> list[Block]:
    return [Block("", rows or [Row(NOT_MEASURED, [Cell("")] * n_columns)])]
