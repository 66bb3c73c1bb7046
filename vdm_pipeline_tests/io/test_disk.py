"""Errors of the disk become one sentence; all other errors pass unchanged."""

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.io.disk import check_free_space, translate_disk_errors


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EROFS, "set VDM_ROOT"),
        (errno.EACCES, "set VDM_ROOT"),
    ],
)
def test_disk_error_names_the_file_and_the_fix(number, hint):
    with pytest.raises(PipelineError, match=hint) as caught, translate_disk_errors(Path("/default")):
        raise OSError(number, "read-only", "/folder/file")
    assert "/folder/file" in str(caught.value)
    assert "/default" not in str(caught.value)


def test_error_of_a_rename_names_the_target(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "existing").touch()
    target = tmp_path / "existing"
    with pytest.raises(PipelineError, match=f"{target}: .*move it away"), translate_disk_errors(tmp_path):
        os.replace(tmp_path / "new", target)


def test_error_without_a_file_names_the_default():
    with pytest.raises(PipelineError, match="/default"), translate_disk_errors(Path("/default")):
        raise OSError(errno.ENOSPC, "full")


def test_no_run_starts_on_a_nearly_full_disk(tmp_path, monkeypatch):
    check_free_space(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2_600_000))
    with (
        pytest.raises(PipelineError, match=rf"{tmp_path}/results has 2\.6 MB left; free 17 MB"),
        Store(tmp_path).lock("run", print),
    ):
        pass
    assert not (tmp_path / "results/.lock").exists()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full on this system")
def test_full_device():
    with (
        pytest.raises(PipelineError, match="The disk is full"),
        translate_disk_errors(Path("/dev/full")),
        open("/dev/full", "w") as file,
    ):
        file.write("x")
        file.flush()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "bad"), ValueError("x"), ConnectionError("gone")])
def test_other_errors_pass(error):
    with pytest.raises(type(error)), translate_disk_errors(Path("/default")):
        raise error
