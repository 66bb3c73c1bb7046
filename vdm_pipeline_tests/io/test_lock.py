"""The lock file: one holder at a time, the others wait and report it, and a killed process releases it."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io import lock
from vdm_pipeline.io.lock import lock_holder, locked

HOLDER = """
import sys, time
from pathlib import Path
from vdm_pipeline.io.lock import locked
with locked(Path(sys.argv[1]), {"run": "other"}, print):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_process(tmp_path: Path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / ".lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_reading_the_holder_does_not_hold_the_lock(tmp_path):
    path = tmp_path / ".lock"
    path.touch()
    with path.open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)  # as `lock_holder` does in another process
        assert lock_holder(path) is None


@pytest.mark.parametrize("content", ["", "abc}", "[]", '{"run": '])
def test_unreadable_holder_is_empty(tmp_path, content):
    path = tmp_path / ".lock"
    path.write_text(content)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert lock_holder(path) == {}


def test_named_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    assert lock_holder(tmp_path / ".lock") is None


def test_no_holder_before_and_after(tmp_path):
    path = tmp_path / ".lock"
    assert lock_holder(path) is None
    with locked(path, {"run": "this"}, print):
        assert lock_holder(path) == {"run": "this"}
    assert lock_holder(path) is None


def test_second_process_waits_and_reports_the_holder(tmp_path, other_process, monkeypatch):
    monkeypatch.setattr(lock, "MESSAGE_S", 0.3)
    reported, exit_codes = [], []

    def wait_for_lock() -> None:
        with locked(tmp_path / ".lock", {"run": "this"}, reported.append):
            exit_codes.append(other_process.poll())

    waiting = threading.Thread(target=wait_for_lock)
    waiting.start()
    time.sleep(1)
    assert not exit_codes
    assert reported[0] == {"run": "other"}
    assert 2 <= len(reported) <= 5
    other_process.send_signal(signal.SIGKILL)
    waiting.join(10)
    assert exit_codes


def test_lock_of_a_killed_process_is_free(tmp_path, other_process):
    assert lock_holder(tmp_path / ".lock") == {"run": "other"}
    other_process.kill()
    other_process.wait()
    assert lock_holder(tmp_path / ".lock") is None
    with locked(tmp_path / ".lock", {"run": "this"}, print):
        assert lock_holder(tmp_path / ".lock") == {"run": "this"}


def test_child_process_does_not_inherit_the_lock(tmp_path):
    path = tmp_path / ".lock"
    with locked(path, {}, print):
        child = subprocess.Popen(["sleep", "60"])
    try:
        assert lock_holder(path) is None
    finally:
        child.kill()
        child.wait()


def test_error_in_the_block_releases_the_lock(tmp_path):
    with pytest.raises(ValueError, match="inside"), locked(tmp_path / ".lock", {}, print):
        raise ValueError("inside")
    assert lock_holder(tmp_path / ".lock") is None


def test_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "no/.lock", {}, print):
        os._exit(1)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("use", [lambda path: locked(path, {}, print).__enter__(), lock_holder])
def test_file_system_without_locks(tmp_path, monkeypatch, number, use):
    def unsupported(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / ".lock"
    path.touch()
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(PipelineError, match=rf"{path} cannot be locked.*VDM_ROOT"):
        use(path)


def test_other_os_errors_pass(tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="broken"), locked(tmp_path / ".lock", {}, print):
        os._exit(1)
