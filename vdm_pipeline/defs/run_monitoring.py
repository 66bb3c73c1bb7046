"""Runs whose process was killed: Dagster goes on counting them, and whoever needs the GPU pool or the queue waits for ever."""

import os
import socket

import dagster as dg
import psutil
from dagster._core.events import EngineEventData

from vdm_pipeline.incremental.store import Store

UNFINISHED = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def report_worker_host(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Tell Dagster which machine works on the run: in a database that several share, a process's number alone says nothing."""
    if not _is_of_one_machine(instance):
        where = {"pid": dg.MetadataValue.text(str(os.getpid())), "host": dg.MetadataValue.text(socket.gethostname())}
        instance.report_engine_event(f"At work on {socket.gethostname()}", run, EngineEventData(where))


def fail_orphaned_runs(instance: dg.DagsterInstance, store: Store) -> list[str]:
    """Mark each run that no living process works on as failed, free its slots in the pools, and return their ids.

    Slots of runs that ended are freed too: a step that was a job elsewhere and never began keeps its own.
    A run that holds the project folder lives, whatever the clock says. Processes can be looked up on this machine alone, so a
    run is left alone if one of its processes is known to no `report_worker_host` from here.
    """
    unfinished = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    dead = [run for run in unfinished if _is_dead(instance, run.run_id) and not store.is_locked_by(run.run_id)]
    for run in dead:
        instance.report_run_failed(run, "The process of this run was killed; run it again, and it goes on from where it was.")
    storage = instance.event_log_storage
    for run_id in storage.get_concurrency_run_ids():
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
    return [run.run_id for run in dead]


def _is_of_one_machine(instance: dg.DagsterInstance) -> bool:
    return "Sqlite" in type(instance.event_log_storage).__name__


def _is_dead(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether processes are known of the run and none of them lives; a number used anew by a later process does not count."""
    processes, here = [], set()
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        ray_device_metadata = entry.get_dagster_event().engine_event_data.metadata
        if "pid" not in ray_device_metadata:
            continue
        pid = int(str(ray_device_metadata["pid"].value))
        processes.append((pid, entry.timestamp))
        if "host" in ray_device_metadata and ray_device_metadata["host"].value == socket.gethostname():
            here.add(pid)
    if not _is_of_one_machine(instance) and any(pid not in here for pid, _ in processes):
        return False
    return bool(processes) and not any(_lives(pid, since) for pid, since in processes)


def _lives(pid: int, since: float) -> bool:
    try:
        return psutil.Process(pid).create_time() <= since
    except psutil.NoSuchProcess:
        return False


def orphaned_runs_sensor(store: Store) -> dg.SensorDefinition:
    """The sensor ``orphaned_runs_sensor``: clears away runs that were killed, so that the next one starts."""

    @dg.sensor(name="dead_runs", minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """Clears away runs that were killed, so that the next one starts."""
        failed = fail_orphaned_runs(context.instance, store)
        return dg.SkipReason(f"marked as failed: {', '.join(failed)}" if failed else "no run was killed")

    return sensor
