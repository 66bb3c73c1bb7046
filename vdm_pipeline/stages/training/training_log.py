"""``training_log.csv``: a row of figures for some of the steps."""

import csv
from collections.abc import Mapping
from pathlib import Path

from vdm_pipeline.io.atomic import atomic_file

COLUMNS = ("step", "loss", "validation_loss", "lr", "grad_norm", "images_per_s", "mfu", "peak_memory_mb")


class TrainingLog:
    """Rows by step.

    ``loss`` is the mean since the previous row, and ``grad_norm`` that of the last step, before clipping.
    ``mfu`` is the model FLOPs utilization, relative to the FLOP/s of a large matmul on this machine.
    """

    def __init__(self, path: Path, start: int) -> None:
        """Keep the rows of an existing log up to ``start``; later steps run again."""
        self.path = path
        self.rows: list[dict[str, str]] = []
        if path.is_file() and start:
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= start]

    @property
    def steps(self) -> list[int]:
        """Steps of the rows."""
        return [int(row["step"]) for row in self.rows]

    @property
    def last_step(self) -> int:
        """Step of the last row; 0 without rows."""
        return self.steps[-1] if self.rows else 0

    def set_validation_losses(self, losses: Mapping[int, float | None]) -> None:
        """Replace the validation loss of every row, and rewrite the file."""
        for row, step in zip(self.rows, self.steps, strict=True):
            loss = losses[step]
            row["validation_loss"] = "" if loss is None else f"{loss:.6g}"
        self._write()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row and rewrite the file; cells without a value stay empty."""
        self.rows.append({"step": str(step)} | {name: f"{value:.6g}" for name, value in values.items()})
        self._write()

    def _write(self) -> None:
        with atomic_file(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
