"""Run a training in this process, or in several that accelerate starts."""

from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.io.progress import Log
from vdm_pipeline.stages.runtime.environment import launchers_hidden
from vdm_pipeline.stages.runtime.launcher import launch_workers
from vdm_pipeline.stages.training.job import Job


def run_training(job: Job, log: Log) -> None:
    """Train in ``execution.num_processes`` processes; ``log`` gets every line of their output.

    Raises `PipelineError` with a worker's error, or with the last lines of a worker that died.
    """
    if job.execution.num_processes == 1:
        from vdm_pipeline.stages.training.loop import train

        with launchers_hidden():
            train(job, log)
        return
    path = job.state / "job.json"
    write_text(path, job.model_dump_json(indent=1))
    launch_workers("vdm_pipeline.stages.training.worker", path, job.execution.num_processes, log)
