"""The images of an arm, drawn in this process or in several that accelerate starts, and their table."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import remove_leftovers, write_text
from vdm_pipeline.io.tables import write_rows
from vdm_pipeline.stages.device import pick_device, pick_dtype
from vdm_pipeline.stages.processes import launch
from vdm_pipeline.stages.sampling.draw import Progress, draw_share, made
from vdm_pipeline.stages.sampling.job import Job


def generate(job: Job, log: Callable[[str], None], progress: Progress) -> list[dict[str, Any]]:
    """Write an image a shot and ``metadata.jsonl`` into ``job.folder``, and return its rows in the order of the plan.

    An interrupted call is gone on with at the first missing image, and ends in the same bytes. One process reports to
    ``progress``; of several, every line goes to ``log``. Raises `PipelineError` for images that are not finite.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    if job.execution.processes == 1:
        device = pick_device(job.execution.device)
        draw_share(job, 0, 1, device, pick_dtype(device), progress)
    elif any(made(job, shot) is None for shot in job.shots):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "job.json"
            write_text(path, job.model_dump_json(indent=1))
            launch("vdm_pipeline.stages.sampling.worker", path, job.execution.processes, log)
    remove_leftovers(job.folder, ".*")
    rows = [row for shot in job.shots if (row := made(job, shot))]
    if len(rows) < len(job.shots):
        raise PipelineError(f"{len(job.shots) - len(rows)} images are missing or damaged in {job.folder}; materialize the asset again.")
    write_rows(job.folder / "metadata.jsonl", rows)
    return rows
