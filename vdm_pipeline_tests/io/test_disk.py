"""Faults of the disk are a sentence; all others stay what they are."""

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.io.disk import check_room, disk_faults


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "The disk is full (/there/x); make room, and the next run goes on from where it was."),
        (errno.EDQUOT, "The disk is full (/there/x); make room"),
        (errno.EROFS, "/there/x: read-only; make it writable, or set VDM_ROOT to a folder that is."),
        (errno.EACCES, "/there/x: read-only; make it writable"),
    ],
)
def test_a_fault_of_the_disk_is_a_sentence(number, said):
    with pytest.raises(PipelineError) as caught, disk_faults(Path("/place")):
        raise OSError(number, "read-only", "/there/x")
    assert str(caught.value).startswith(said)


def test_of_a_rename_the_place_that_is_taken_is_named(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "taken").touch()
    with pytest.raises(PipelineError) as caught, disk_faults(tmp_path):
        os.replace(tmp_path / "new", tmp_path / "taken")
    assert (
        str(caught.value)
        == f"{tmp_path}/taken: Not a directory; something else stands in its place, move it away."
    )


def test_a_run_is_not_begun_on_a_disk_that_is_nearly_full(tmp_path, monkeypatch):
    check_room(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=2_600_000))
    with pytest.raises(PipelineError) as caught, Store(tmp_path).working("run", print):
        pass
    assert (
        str(caught.value)
        == f"The disk of {tmp_path}/results has 2.6 MB left; make room for 17 MB, and run again."
    )
    assert not (tmp_path / "results/.lock").exists()


def test_without_a_file_the_place_is_named():
    with pytest.raises(PipelineError, match=r"^The disk is full \(/place\)"), disk_faults(Path("/place")):
        raise OSError(errno.ENOSPC, "full")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full on this system")
def test_a_really_full_device_is_told():
    with (
        pytest.raises(PipelineError, match="The disk is full"),
        disk_faults(Path("/dev/full")),
        open("/dev/full", "w") as file,
    ):
        file.write("x")
        file.flush()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "bad"), ValueError("x"), ConnectionError("gone")])
def test_anything_else_passes(error):
    with pytest.raises(type(error)), disk_faults(Path("/place")):
        raise error
