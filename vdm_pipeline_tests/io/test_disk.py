"""Faults of the disk are a sentence; all others stay what they are."""

import errno
from pathlib import Path

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.disk import disk_faults


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


def test_without_a_file_the_place_is_named():
    with pytest.raises(PipelineError, match=r"^The disk is full \(/place\)"), disk_faults(Path("/place")):
        raise OSError(errno.ENOSPC, "full")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
def test_a_really_full_device_is_told():
    with pytest.raises(PipelineError, match="The disk is full"), disk_faults(Path("/dev/full")), open("/dev/full", "w") as file:
        file.write("x")
        file.flush()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "bad"), ValueError("x"), ConnectionError("gone")])
def test_anything_else_passes(error):
    with pytest.raises(type(error)), disk_faults(Path("/place")):
        raise error
