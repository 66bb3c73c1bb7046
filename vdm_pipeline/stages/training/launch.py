"""A training in this process, or in several that accelerate starts."""

from collections.abc import Callable

from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.stages.runtime.launcher import launch
from vdm_pipeline.stages.training.job import Job


def run_training(job: Job, log: Callable[[str], None]) -> None:
    """Train as `train` does, in as many processes as ``execution.num_processes`` says; every line of theirs goes to ``log``.

    Raises `PipelineError` with the worker's sentence, or with the last lines of a worker that died.
    """
    if job.execution.num_processes == 1:
        from vdm_pipeline.stages.training.loop import train

        return train(job, log)
    path = job.state / "job.json"
    write_text(path, job.model_dump_json(indent=1))
    return launch("vdm_pipeline.stages.training.worker", path, job.execution.num_processes, log)
