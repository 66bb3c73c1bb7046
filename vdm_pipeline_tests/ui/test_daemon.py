"""The real daemon: after a new archive in data/, it recomputes everything up to the report, once."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline.stages.data.npz import write_npz
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline_tests.postgres import is_available
from vdm_pipeline_tests.profiles import shrink
from vdm_pipeline_tests.ui.server import Server, project, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("make"), reason="make is not installed"),
]
COUNTS = {"train": 546, "val": 78, "test": 156}
"""Images by split of BreastMNIST, the smallest archive of MedMNIST."""
TIMEOUT_S = 240
LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "vdm_pipeline.definitions"}


def archive(path: Path, first: int) -> Path:
    """Write an archive of phantoms in the form of MedMNIST's archives."""
    arrays = {}
    for index, (split, count) in enumerate(COUNTS.items()):
        labels = np.arange(count) % 2
        arrays[f"{split}_images"] = render(first + index, np.arange(count), labels == 1, 28)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)[:, None]
    write_npz(path, arrays)
    return path


def profile() -> Profile:
    return shrink(
        load_profile("demo"),
        data={"dataset": "breastmnist", "source": "file", "size": 28},
        checks={"min_purity": 0.3},
    )


def switch_on(server: Server) -> None:
    """Start the schedule and the sensor, as the switches of the UI do."""
    sensor = LOCATION | {"sensorName": "rematerialize_on_change"}
    started = server.query(
        "mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }", s=sensor
    )
    assert started["startSensor"]["__typename"] == "Sensor"
    schedule = LOCATION | {"scheduleName": "relabel"}
    started = server.query(
        "mutation($s: ScheduleSelector!) { startSchedule(scheduleSelector: $s) { __typename } }", s=schedule
    )
    assert started["startSchedule"]["__typename"] == "ScheduleStateResult"


def skipped_ticks(server: Server, since: float) -> int:
    """Number of the sensor's ticks since a time that found nothing to do."""
    state = "... on Sensor { sensorState { ticks(limit: 9) { timestamp status } } }"
    query = f"query($s: SensorSelector!) {{ sensorOrError(sensorSelector: $s) {{ {state} }} }}"
    sensor = server.query(query, s=LOCATION | {"sensorName": "rematerialize_on_change"})["sensorOrError"]
    ticks = sensor["sensorState"]["ticks"]
    return sum(tick["timestamp"] > since and tick["status"] == "SKIPPED" for tick in ticks)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = TIMEOUT_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not after {seconds} s"
        time.sleep(1)


def succeeded(server: Server) -> list[str]:
    runs = server.runs()
    assert not [run for run in runs if run["status"] in ("FAILURE", "CANCELED")], runs
    return [run["runId"] for run in runs if run["status"] == "SUCCESS"]


@pytest.mark.parametrize("storage", ["postgres" if is_available() else "sqlite"])
def test_new_archive_rematerializes_everything_once(request, tmp_path, storage):
    postgres = request.getfixturevalue("postgres") if storage == "postgres" else None
    one, other = archive(tmp_path / "one.npz", 0), archive(tmp_path / "other.npz", 10)
    root = project(tmp_path / "project", profile())
    page = root / "results/report/index.html"
    with serving(root, postgres) as server:
        switch_on(server)
        wait_until(
            lambda: (root / "results/generated_images_no_fine_tuning").is_dir(),
            "assets without an archive are materialized",
        )
        wait_until(lambda: len(succeeded(server)) == 1, "the first run ends")
        assert not page.exists(), "the report was computed without an archive"

        shutil.copy(one, root / "data/breastmnist.npz")
        wait_until(page.exists, "the report is there")
        wait_until(lambda: len(succeeded(server)) == 2, "the second run ends")
        assert server.unsynced() == set()
        first_page = page.stat().st_ino

        shutil.copy(other, root / "data/breastmnist.npz")
        wait_until(
            lambda: page.exists() and page.stat().st_ino != first_page,
            "the report of the new archive is there",
        )
        wait_until(lambda: len(succeeded(server)) == 3, "the third run ends")
        ended = time.time()
        wait_until(lambda: skipped_ticks(server, ended) >= 2, "the sensor ticks twice")
        assert len(server.runs()) == 3, "something was computed twice"
        assert server.unsynced() == set()
