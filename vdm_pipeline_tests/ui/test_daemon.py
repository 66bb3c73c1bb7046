"""The real daemon: an archive is dropped into data/, and everything down to the report re-makes itself, once."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline.stages.data.npz import write_npz
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline_tests.conftest import shrink
from vdm_pipeline_tests.postgres import is_at_hand
from vdm_pipeline_tests.ui.server import Server, project, serving

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="no make is installed")
COUNTS = {"train": 546, "val": 78, "test": 156}
"""Those of BreastMNIST, the smallest archive that MedMNIST lists."""
SECONDS = 240
LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "vdm_pipeline.definitions"}


def archive(path: Path, first: int) -> Path:
    """Phantoms, as an archive of that name that is not MedMNIST's file."""
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
    """The schedule and the sensor, as the UI's switches do."""
    sensor = LOCATION | {"sensorName": "remake_on_change"}
    started = server.ask(
        "mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }", s=sensor
    )
    assert started["startSensor"]["__typename"] == "Sensor"
    schedule = LOCATION | {"scheduleName": "relabel"}
    started = server.ask(
        "mutation($s: ScheduleSelector!) { startSchedule(scheduleSelector: $s) { __typename } }", s=schedule
    )
    assert started["startSchedule"]["__typename"] == "ScheduleStateResult"


def looks(server: Server, since: float) -> int:
    """How often the sensor has looked since, and found nothing to do."""
    state = "... on Sensor { sensorState { ticks(limit: 9) { timestamp status } } }"
    query = f"query($s: SensorSelector!) {{ sensorOrError(sensorSelector: $s) {{ {state} }} }}"
    ticks = server.ask(query, s=LOCATION | {"sensorName": "remake_on_change"})["sensorOrError"][
        "sensorState"
    ]["ticks"]
    return sum(tick["timestamp"] > since and tick["status"] == "SKIPPED" for tick in ticks)


def until(holds: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what}: not after {seconds} s"
        time.sleep(1)


def succeeded(server: Server) -> list[str]:
    runs = server.runs()
    assert not [run for run in runs if run["status"] in ("FAILURE", "CANCELED")], runs
    return [run["runId"] for run in runs if run["status"] == "SUCCESS"]


@pytest.mark.parametrize("storage", ["postgres" if is_at_hand() else "sqlite"])
def test_a_new_archive_re_makes_everything_once(request, tmp_path, storage):
    postgres = request.getfixturevalue("postgres") if storage == "postgres" else None
    one, other = archive(tmp_path / "one.npz", 0), archive(tmp_path / "other.npz", 10)
    root = project(tmp_path / "project", profile())
    page = root / "results/report/index.html"
    with serving(root, postgres) as server:
        switch_on(server)
        until(
            lambda: (root / "results/generated_images_no_fine_tuning").is_dir(),
            "what needs no archive is made",
        )
        until(lambda: len(succeeded(server)) == 1, "the first run ends")
        assert not page.exists(), "an archive that is not there yet is waited for"

        shutil.copy(one, root / "data/breastmnist.npz")
        until(page.exists, "the report is there")
        until(lambda: len(succeeded(server)) == 2, "the second run ends")
        assert server.unsynced() == set()
        made = page.stat().st_ino

        shutil.copy(other, root / "data/breastmnist.npz")
        until(lambda: page.exists() and page.stat().st_ino != made, "the report of the new archive is there")
        until(lambda: len(succeeded(server)) == 3, "the third run ends")
        ended = time.time()
        until(lambda: looks(server, ended) >= 2, "the sensor looks twice")
        assert len(server.runs()) == 3, "once is enough"
        assert server.unsynced() == set()
