"""``training_log.csv``, and the same figures to accelerate's trackers."""

import csv
from pathlib import Path
from typing import Any

from vdm_pipeline.io.atomic import atomic_file

COLUMNS = ("step", "loss", "validation_loss", "lr", "grad_norm", "images_per_s", "mfu", "peak_memory_mb")


class TrainingLog:
    """Rows by step; ``loss`` is the mean since the row before, ``grad_norm`` the last before clipping."""

    def __init__(self, path: Path, start: int) -> None:
        """Keep the rows up to ``start`` of a log that stands there; what came later is made again."""
        self.path = path
        self.rows: list[dict[str, str]] = []
        if path.is_file() and start:
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= start]

    @property
    def last(self) -> int:
        """Step of the last row; 0 where there is none."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    def add(self, step: int, figures: dict[str, Any]) -> None:
        """Add a row and write the file anew; absent figures stay empty."""
        texts = {key: f"{value:.6g}" for key, value in figures.items() if value is not None}
        self.rows.append({"step": str(step)} | texts)
        with atomic_file(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
