"""Runs whose process was killed: Dagster goes on counting them, and whoever needs the GPU pool or the queue waits for ever."""

import dagster as dg
import psutil

from vdm_pipeline.io.store import Store

UNFINISHED = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def fail_dead_runs(instance: dg.DagsterInstance, store: Store) -> list[str]:
    """Mark each run that no living process works on as failed, free its slots in the pools, and return their ids.

    A run that holds the project folder lives, whatever the clock says. Processes can be looked up on this machine alone, so
    nothing is done unless the instance keeps its events in SQLite.
    """
    if "Sqlite" not in type(instance.event_log_storage).__name__:
        return []
    unfinished = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    dead = [run for run in unfinished if _is_dead(instance, run.run_id) and not store.works(run.run_id)]
    for run in dead:
        instance.report_run_failed(run, "The process of this run was killed; run it again, and it goes on from where it was.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def _is_dead(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether processes are known of the run and none of them lives; a number used anew by a later process does not count."""
    processes = []
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        pid = entry.get_dagster_event().engine_event_data.metadata.get("pid")
        if pid is not None:
            processes.append((int(str(pid.value)), entry.timestamp))
    return bool(processes) and not any(_lives(pid, since) for pid, since in processes)


def _lives(pid: int, since: float) -> bool:
    try:
        return psutil.Process(pid).create_time() <= since
    except psutil.NoSuchProcess:
        return False


def dead_runs(store: Store) -> dg.SensorDefinition:
    """The sensor ``dead_runs``: clears away runs that were killed, so that the next one starts."""

    @dg.sensor(name="dead_runs", minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """Clears away runs that were killed, so that the next one starts."""
        failed = fail_dead_runs(context.instance, store)
        return dg.SkipReason(f"marked as failed: {', '.join(failed)}" if failed else "no run was killed")

    return sensor
