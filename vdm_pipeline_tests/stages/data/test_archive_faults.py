"""Faults of the server of an archive, or of the network: one sentence each, and a later run recovers."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io import download
from vdm_pipeline.io.hashing import digest
from vdm_pipeline.settings import Data, Profile
from vdm_pipeline.stages.data.archive import obtain_archive, read_archive
from vdm_pipeline.stages.data.medmnist_info import medmnist_table
from vdm_pipeline_tests.defs.assets.graph import computed, error_message, materialize
from vdm_pipeline_tests.hub import Fault, serving
from vdm_pipeline_tests.profiles import shrink
from vdm_pipeline_tests.real_data import REAL_ARCHIVE, needs_real_archive
from vdm_pipeline_tests.stages.data.archives import DOWNLOAD, NAMES, ignore_log
from vdm_pipeline_tests.stages.fault_tables import documented_errors, matches

UNREACHABLE = "http://127.0.0.1:9"
RESUME = ("run again to resume it", "execution.archive_mirror")


@dataclass(frozen=True)
class Case:
    """A fault, the error that it gives, and what the message mentions."""

    error: str
    """Name of the error's class. Empty if the download recovers without one."""
    mentions: tuple[str, ...] = ()
    fault: Fault | None = None
    """None: no server answers."""


CASES = {
    "nobody answers": Case("NetworkError", ("Connection refused", *RESUME)),
    "the server is down": Case("NetworkError", ("HTTP Error 503", *RESUME), Fault("503")),
    "the server is busy": Case("NetworkError", ("HTTP Error 429", *RESUME), Fault("429")),
    "the server has no such file": Case(
        "ArchiveError", ("HTTP Error 404", "execution.archive_mirror", 'data.source = "file"'), Fault("404")
    ),
    "the server refuses": Case("ArchiveError", ("HTTP Error 403", "execution.archive_mirror"), Fault("403")),
    "the archive stalls, once": Case("", fault=Fault("stall", "", 1)),
    "the archive stalls, always": Case("NetworkError", ("timed out", *RESUME), Fault("stall")),
    "the archive breaks off, once": Case("", fault=Fault("cut", "", 1)),
    "the archive breaks off, always": Case("NetworkError", ("the connection ended", *RESUME), Fault("cut")),
    "the archive has another byte": Case("ArchiveError", ("has MD5", "was removed"), Fault("corrupt", "", 1)),
    "a login page instead of the archive": Case("ArchiveError", ("has MD5", "was removed"), Fault("page")),
}


@dataclass(frozen=True)
class Outcome:
    """What two downloads gave, the first with a fault and the second without, and requests of the second."""

    first: str
    second: str
    requests: list[str]


@pytest.fixture(scope="module", autouse=True)
def fast_retries() -> Iterator[pytest.MonkeyPatch]:
    """No waits between tries, short timeouts, and no proxy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        patch.setattr(download, "RETRY_WAIT_S", 0)
        patch.setattr(download, "TIMEOUT_S", 1)
        yield patch


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, fast_retries) -> Path:
    """A folder with phantoms as the archive of ``tinymnist``. MedMNIST's table gets an entry for it."""
    folder, counts = tmp_path_factory.mktemp("served"), {"train": 40, "val": 8, "test": 8}
    phantoms = obtain_archive(Data(dataset="phantom", size=28, source="phantom", **counts), folder, print)
    path = phantoms.rename(folder / DOWNLOAD.file_name)
    info = {
        "url": "http://127.0.0.1:9/none",
        "MD5": digest(path, "md5"),
        "task": "binary-class",
        "license": "CC0",
        "label": {"0": "normal", "1": "pneumonia"},
        "n_channels": 1,
        "n_samples": counts,
    }
    fast_retries.setitem(medmnist_table(), "tinymnist", info)
    return folder


def try_to_obtain(folder: Path, mirror: str, data: Data = DOWNLOAD) -> str:
    """The path of the archive, or the error, as one line."""
    try:
        return f"path: {obtain_archive(data, folder, ignore_log, mirror)}"
    except PipelineError as error:
        return f"{type(error).__name__}: {error}"


def obtain_twice(title: str, served: Path, folder: Path) -> Outcome:
    """Download with the fault, and then without it."""
    fault = CASES[title].fault
    with serving({}, served) as server:
        server.faults = [fault] if fault else []
        first = try_to_obtain(folder, server.url if fault else UNREACHABLE)
        server.faults = []
        server.requests.clear()
        return Outcome(first, try_to_obtain(folder, server.url), server.requests)


@pytest.fixture(scope="module")
def outcomes(served, tmp_path_factory) -> dict[str, Outcome]:
    """All cases, in parallel because some wait for timeouts."""
    folder = tmp_path_factory.mktemp("data")
    with ThreadPoolExecutor(4) as pool:
        done = pool.map(lambda title: obtain_twice(title, served, folder / title.replace(" ", "_")), CASES)
        return dict(zip(CASES, done, strict=True))


@pytest.mark.parametrize("title", CASES)
def test_a_fault_is_one_sentence_and_a_later_run_recovers(outcomes, served, title):
    case, outcome = CASES[title], outcomes[title]
    assert outcome.first.startswith(f"{case.error}: " if case.error else "path: ")
    assert not [part for part in (*case.mentions, "tinymnist.npz") if part not in outcome.first], (
        outcome.first
    )
    assert "\n" not in outcome.first
    path = Path(outcome.second.removeprefix("path: "))
    assert path.read_bytes() == (served / DOWNLOAD.file_name).read_bytes()
    assert os.listdir(path.parent) == [DOWNLOAD.file_name]
    assert read_archive(path, DOWNLOAD, NAMES).verify().status == "official"


@pytest.mark.parametrize("title", ["the archive stalls, always", "the archive breaks off, always"])
def test_a_later_run_requests_only_the_rest(outcomes, title):
    (request,) = outcomes[title].requests
    assert request.startswith(f"GET /{DOWNLOAD.file_name} bytes=") and not request.endswith("=0-")


def test_the_document_lists_the_same_faults(outcomes):
    errors = documented_errors("Faults of a server of archives")
    assert list(errors) == list(CASES)
    for title, error in errors.items():
        if CASES[title].error:
            assert matches(error, outcomes[title].first.split(": ", 1)[1]), outcomes[title].first
        else:
            assert not error, "a fault that a retry hides has no sentence"


def test_another_mirror_does_not_make_the_archive_stale(tiny: Profile, project, served):
    data = DOWNLOAD.model_dump()
    with serving({}, served) as server:
        with_mirror = shrink(tiny, data=data, execution={"archive_mirror": f"{server.url}/"})
        result = materialize(with_mirror, project, ["raw_npz"])
        assert result.success, error_message(result)
        assert server.requests == [f"GET /{DOWNLOAD.file_name}"]
    other_mirror = shrink(tiny, data=data, execution={"archive_mirror": "https://127.0.0.1:9/nowhere"})
    for profile in (other_mirror, shrink(tiny, data=data)):
        assert computed(materialize(profile, project, ["raw_npz"])) == set()


@pytest.mark.real_data
@needs_real_archive
def test_the_real_archive_is_accepted_only_with_the_official_md5(tmp_path):
    data = Data(dataset="pneumoniamnist", size=28, source="download")
    official, actual = medmnist_table()["pneumoniamnist"]["MD5"], digest(REAL_ARCHIVE, "md5")
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / data.file_name).symlink_to(REAL_ARCHIVE.resolve())
    with serving({}, tmp_path / "served") as server:
        line = try_to_obtain(tmp_path / "data", server.url, data)
    if actual == official:
        assert read_archive(Path(line.removeprefix("path: ")), data, NAMES).verify().status == "official"
    else:
        assert f"has MD5 {actual} instead of {official} and was removed" in line
        assert not any((tmp_path / "data").iterdir())
