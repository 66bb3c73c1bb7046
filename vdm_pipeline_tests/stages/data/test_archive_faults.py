"""Whatever a server of MedMNIST's archives, or the way to it, may do: one sentence, and a later run recovers."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import medmnist
import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io import download
from vdm_pipeline.io.hashing import digest
from vdm_pipeline.settings import Data, Profile
from vdm_pipeline.stages.data.archive import obtain_archive, read_archive
from vdm_pipeline_tests.conftest import shrink
from vdm_pipeline_tests.defs.assets.graph import computed, error_message, materialize
from vdm_pipeline_tests.hub import Fault, serving
from vdm_pipeline_tests.stages.fault_tables import documented_rows, matches

DATA = Data(dataset="tinymnist", size=28, source="download")
NAMES = ("normal", "pneumonia")
REAL = Path(os.environ.get("VDM_REAL_DATA", ""))
AGAIN = "run again to go on where it stopped, or correct execution.archive_mirror, or …"

# What happens, and what is told. `docs/models.md` has the same table.
FAULTS = {
    "nobody answers": (
        None,
        f"NetworkError: …tinymnist.npz: the download from … broke off (<urlopen error … Connection refused>); {AGAIN}",
    ),
    "the server is down": (
        [Fault("503")],
        f"NetworkError: …tinymnist.npz: the download from … broke off (HTTP Error 503: Service Unavailable); {AGAIN}",
    ),
    "the server is busy": (
        [Fault("429")],
        f"NetworkError: …tinymnist.npz: the download from … broke off (HTTP Error 429: Too Many Requests); {AGAIN}",
    ),
    "the server has no such file": (
        [Fault("404")],
        "ArchiveError: …tinymnist.npz: the download from … is refused (HTTP Error 404: Not Found); correct execution.archive_mirror, or "
        'fetch the file yourself, put it there and set data.source = "file".',
    ),
    "the server refuses": (
        [Fault("403")],
        "ArchiveError: …tinymnist.npz: the download from … is refused (HTTP Error 403: Forbidden); correct execution.archive_mirror, or …",
    ),
    "the archive stalls, once": ([Fault("stall", "", 1)], "path: …"),
    "the archive stalls, always": (
        [Fault("stall")],
        f"NetworkError: …tinymnist.npz: the download from … broke off (timed out); {AGAIN}",
    ),
    "the archive breaks off, once": ([Fault("cut", "", 1)], "path: …"),
    "the archive breaks off, always": (
        [Fault("cut")],
        f"NetworkError: …tinymnist.npz: the download from … broke off (the connection ended after … of … bytes); {AGAIN}",
    ),
    "the archive has another byte": (
        [Fault("corrupt", "", 1)],
        "ArchiveError: …tinymnist.npz: the download from … has MD5 … instead of … and was removed; run again to fetch it anew, or …",
    ),
    "a login page instead of the archive": (
        [Fault("page")],
        "ArchiveError: …tinymnist.npz: the download from … has MD5 … instead of … and was removed; run again to fetch it anew, or …",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def hasty() -> Iterator[pytest.MonkeyPatch]:
    """Tries that follow each other at once, and no proxy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        patch.setattr(download, "RETRY_WAIT_S", 0)
        patch.setattr(download, "TIMEOUT_S", 1)
        yield patch


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, hasty) -> Path:
    """A folder with rendered phantoms under the name of a data set, which stands in MedMNIST's table with their MD5."""
    folder, counts = tmp_path_factory.mktemp("served"), {"train": 40, "val": 8, "test": 8}
    phantom = obtain_archive(Data(dataset="phantom", size=28, source="phantom", **counts), folder, print)
    path = phantom.rename(folder / DATA.file_name)
    facts = {
        "url": "http://127.0.0.1:9/none",
        "MD5": digest(path, "md5"),
        "task": "binary-class",
        "license": "CC0",
    }
    facts |= {"label": {"0": "normal", "1": "pneumonia"}, "n_channels": 1, "n_samples": counts}
    hasty.setitem(medmnist.INFO, "tinymnist", facts)
    return folder


def ask(folder: Path, mirror: str, data: Data = DATA) -> str:
    """What comes of asking for the archive, in one line."""
    try:
        return f"path: {obtain_archive(data, folder, lambda line: None, mirror)}"
    except PipelineError as error:
        return f"{type(error).__name__}: {error}"


def _first_and_second(case: str, served: Path, folder: Path) -> tuple[str, str, list[str]]:
    """What is told under the fault, and without it, and what the second run asks for."""
    faults, _ = FAULTS[case]
    with serving({}, served) as server:
        server.faults = faults or []
        first = ask(folder, server.url if faults is not None else "http://127.0.0.1:9")
        server.faults = []
        server.requests.clear()
        return first, ask(folder, server.url), server.requests


@pytest.fixture(scope="module")
def told(served, tmp_path_factory) -> dict[str, tuple[str, str, list[str]]]:
    """Of all faults, beside each other, as some wait."""
    folder = tmp_path_factory.mktemp("data")
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(4))
        asked = pool.map(
            lambda case: _first_and_second(case, served, folder / case.replace(" ", "_")), FAULTS
        )
        return dict(zip(FAULTS, asked, strict=True))


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_one_sentence_and_a_later_run_recovers(told, served, case):
    first, second, _ = told[case]
    assert matches(FAULTS[case][-1], first), first
    path = Path(second.removeprefix("path: "))
    assert path.read_bytes() == (served / DATA.file_name).read_bytes()
    assert os.listdir(path.parent) == [DATA.file_name]
    assert read_archive(path, DATA, NAMES).verify().status == "official"


@pytest.mark.parametrize("case", ["the archive stalls, always", "the archive breaks off, always"])
def test_a_later_run_asks_for_the_rest_alone(told, case):
    (asked,) = told[case][-1]
    assert asked.startswith(f"GET /{DATA.file_name} bytes=") and not asked.endswith("=0-")


def test_the_document_lists_the_same_faults():
    expected = [
        (case, f"`{said.split(': ', 1)[1]}`" if "Error" in said else "nothing: it is tried again")
        for case, (_, said) in FAULTS.items()
    ]
    assert documented_rows("nobody answers") == expected


def test_another_server_is_asked_by_an_asset_and_makes_nothing_anew(tiny: Profile, project, served):
    with serving({}, served) as server:
        data = DATA.model_dump()
        there = shrink(tiny, data=data, execution={"archive_mirror": f"{server.url}/"})
        result = materialize(there, project, ["raw_npz"])
        assert result.success, error_message(result)
        assert server.requests == [f"GET /{DATA.file_name}"]
    elsewhere = shrink(tiny, data=data, execution={"archive_mirror": "https://127.0.0.1:9/nowhere"})
    for profile in (elsewhere, shrink(tiny, data=data)):
        assert computed(materialize(profile, project, ["raw_npz"])) == set()


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_file(), reason="set VDM_REAL_DATA to a pneumoniamnist.npz of 28 pixels")
def test_the_real_archive_is_taken_only_with_medmnists_own_md5(tmp_path):
    data, official = (
        Data(dataset="pneumoniamnist", size=28, source="download"),
        medmnist.INFO["pneumoniamnist"]["MD5"],
    )
    found = digest(REAL, "md5")
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / data.file_name).symlink_to(REAL.resolve())
    with serving({}, tmp_path / "served") as server:
        said = ask(tmp_path / "data", server.url, data)
    if found == official:
        assert read_archive(Path(said.removeprefix("path: ")), data, NAMES).verify().status == "official"
    else:
        assert f"has MD5 {found} instead of {official} and was removed" in said
        assert not any((tmp_path / "data").iterdir())
