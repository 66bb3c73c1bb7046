"""What was made from what, and what it cost, from the records of the assets."""

from collections.abc import Mapping
from typing import Any

from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.stages.report.tables import Block, Cell, Row, Table
from vdm_pipeline.stages.report.wording import NOT_MEASURED, number

DIGITS = 12
"""Of a sha256, as many as tell files apart."""
DRAWN = ("generated_images", "baseline_images", "extra_images")


def lineage_table(manifests: Mapping[str, Manifest]) -> Table:
    """An asset a row: versions of data and code, what it was made from, and its files with the start of their sha256."""
    rows = [
        Row(name, [Cell(record.data_version), Cell(record.code_version), _inputs(record), _files(record)])
        for name, record in manifests.items()
    ]
    return Table(
        "What was made from what",
        ["data version", "code version", "made from", "files, sha256"],
        _blocks(rows, 4),
    )


def cost_table(manifests: Mapping[str, Manifest]) -> Table:
    """Seconds, peak memory, and images a second where images are drawn or learnt from."""
    rows = [
        Row(name, [Cell(number(record.seconds)), Cell(number(record.peak_memory_mb)), Cell(_speed(record))])
        for name, record in manifests.items()
    ]
    if manifests:
        rows.append(
            Row(
                "together",
                [Cell(number(sum(record.seconds for record in manifests.values()))), Cell(""), Cell("")],
            )
        )
    return Table(
        "Cost of each asset",
        ["seconds", "peak memory of its process meanwhile, MB", "images a second"],
        _blocks(rows, 3),
    )


def images_per_second(record: Manifest) -> float | None:
    """Of training and drawing, as it was measured; None for other assets, and where images of an earlier run were taken over."""
    metadata: dict[str, Any] = record.metadata
    if record.asset == "lora_weights":
        return metadata.get("images_per_s")
    arms = [key.removeprefix("n") for key in metadata if key == "n" or key.startswith("n_")]
    if record.asset not in DRAWN or not arms or not all(metadata.get(f"images_per_s{arm}") for arm in arms):
        return None
    seconds = sum(metadata[f"n{arm}"] / metadata[f"images_per_s{arm}"] for arm in arms)
    return sum(metadata[f"n{arm}"] for arm in arms) / seconds


def _speed(record: Manifest) -> str:
    speed = images_per_second(record)
    return "" if speed is None else number(float(speed))


def _inputs(record: Manifest) -> Cell:
    return Cell("\n".join(f"{name} {version[:8]}" for name, version in record.inputs.items()))


def _files(record: Manifest) -> Cell:
    """Each file that is no picture; of pictures the number."""
    named = [
        f"{name.rsplit('/', 1)[-1]} {digest[:DIGITS]}"
        for name, digest in record.files.items()
        if not name.endswith(".png")
    ]
    pictures = sum(name.endswith(".png") for name in record.files)
    return Cell("\n".join(named + ([f"{pictures} PNG"] if pictures else [])))


def _blocks(rows: list[Row], columns: int) -> list[Block]:
    return [Block("", rows or [Row(NOT_MEASURED, [Cell("")] * columns)])]
