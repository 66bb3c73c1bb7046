"""Runs whose process was killed. Dagster still counts them, so they would block the pool and the queue."""

import os
import socket

import dagster as dg
import psutil

from vdm_pipeline.defs.dagster_internals import engine_event_data, keeps_runs_on_this_machine
from vdm_pipeline.incremental.store import Store

UNFINISHED = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def report_worker_host(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Record which machine works on the run. In a shared database a process id alone is ambiguous."""
    if not keeps_runs_on_this_machine(instance):
        host = socket.gethostname()
        metadata = {"pid": dg.MetadataValue.text(str(os.getpid())), "host": dg.MetadataValue.text(host)}
        instance.report_engine_event(f"Running on {host}", run, engine_event_data(metadata))


def fail_orphaned_runs(instance: dg.DagsterInstance, store: Store) -> list[str]:
    """Mark runs without a live process as failed, free their pool slots, and return their ids.

    Also frees the slots of finished runs: a step that was a job elsewhere and never started keeps its slot.
    A run that holds the project folder is alive. Processes can be looked up on this machine only, so a run
    with a process that `report_worker_host` did not record here is left alone.
    """
    unfinished = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    orphaned = [
        run for run in unfinished if _is_orphaned(instance, run.run_id) and not store.is_locked_by(run.run_id)
    ]
    for run in orphaned:
        instance.report_run_failed(run, "The process of this run was killed; run it again, and it resumes.")
    _free_slots_of_finished_runs(instance)
    return [run.run_id for run in orphaned]


def _free_slots_of_finished_runs(instance: dg.DagsterInstance) -> None:
    storage = instance.event_log_storage
    for run_id in storage.get_concurrency_run_ids():
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            storage.free_concurrency_slots_for_run(run_id)


def _is_orphaned(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the run has known processes and none is alive. Reused process ids do not count."""
    processes, on_this_host = [], set()
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        metadata = entry.get_dagster_event().engine_event_data.metadata
        if "pid" not in metadata:
            continue
        pid = int(str(metadata["pid"].value))
        processes.append((pid, entry.timestamp))
        if "host" in metadata and metadata["host"].value == socket.gethostname():
            on_this_host.add(pid)
    if not keeps_runs_on_this_machine(instance) and any(pid not in on_this_host for pid, _ in processes):
        return False
    return bool(processes) and not any(_is_alive(pid, since) for pid, since in processes)


def _is_alive(pid: int, since: float) -> bool:
    try:
        return psutil.Process(pid).create_time() <= since
    except psutil.NoSuchProcess:
        return False


def orphaned_runs_sensor(store: Store) -> dg.SensorDefinition:
    """The sensor ``fail_orphaned_runs``."""

    @dg.sensor(
        name="fail_orphaned_runs",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """Marks runs whose process was killed as failed, so that the next run starts."""
        failed = fail_orphaned_runs(context.instance, store)
        return dg.SkipReason(f"marked as failed: {', '.join(failed)}" if failed else "no run was killed")

    return sensor
