"""The lock on a project folder: one at a time, the others wait and say so, and no killed process leaves it behind."""

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
with locked(Path(sys.argv[1]), {"run": "theirs"}, print):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def theirs(tmp_path: Path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / ".lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_who_looks_is_no_holder(tmp_path):
    path = tmp_path / ".lock"
    path.touch()
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # another who looks at this moment
        assert lock_holder(path) is None


@pytest.mark.parametrize("note", ["", "abc}", "[]", '{"run": '])
def test_a_note_that_is_none_of_ours_is_passed_over(tmp_path, note):
    path = tmp_path / ".lock"
    path.write_text(note)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert lock_holder(path) == {}


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    assert lock_holder(tmp_path / ".lock") is None


def test_nobody_holds_what_was_never_locked_or_was_left(tmp_path):
    path = tmp_path / ".lock"
    assert lock_holder(path) is None
    with locked(path, {"run": "mine"}, print):
        assert lock_holder(path) == {"run": "mine"}
    assert lock_holder(path) is None


def test_the_second_waits_for_the_first_and_tells_of_it(tmp_path, theirs, monkeypatch):
    monkeypatch.setattr(lock, "TELL_S", 0.3)
    told, held = [], []

    def take() -> None:
        with locked(tmp_path / ".lock", {"run": "mine"}, told.append):
            held.append(theirs.poll())

    waiting = threading.Thread(target=take)
    waiting.start()
    time.sleep(1)
    assert not held
    assert told[0] == {"run": "theirs"}
    assert 2 <= len(told) <= 5
    theirs.send_signal(signal.SIGKILL)
    waiting.join(10)
    assert held


def test_a_killed_holder_leaves_nothing_behind(tmp_path, theirs):
    assert lock_holder(tmp_path / ".lock") == {"run": "theirs"}
    theirs.kill()
    theirs.wait()
    assert lock_holder(tmp_path / ".lock") is None
    with locked(tmp_path / ".lock", {"run": "mine"}, print):
        assert lock_holder(tmp_path / ".lock") == {"run": "mine"}


def test_a_program_that_the_holder_started_does_not_hold_it(tmp_path):
    path = tmp_path / ".lock"
    with locked(path, {}, print):
        child = subprocess.Popen(["sleep", "60"])
    try:
        assert lock_holder(path) is None
    finally:
        child.kill()
        child.wait()


def test_an_error_inside_lets_go(tmp_path):
    with pytest.raises(ValueError, match="mine"), locked(tmp_path / ".lock", {}, print):
        raise ValueError("mine")
    assert lock_holder(tmp_path / ".lock") is None


def test_a_folder_that_is_not_there_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "no/.lock", {}, print):
        os._exit(1)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("act", [lambda path: locked(path, {}, print).__enter__(), lock_holder])
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, number, act):
    def without(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / ".lock"
    path.touch()
    monkeypatch.setattr(fcntl, "flock", without)
    with pytest.raises(PipelineError) as caught:
        act(path)
    assert str(caught.value) == (
        f"{path} cannot be locked, as its file system has no locks ({os.strerror(number)}); "
        "set VDM_ROOT, or HF_HOME for models, to a folder on another."
    )


def test_another_fault_of_the_system_stays_what_it_is(tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="broken"), locked(tmp_path / ".lock", {}, print):
        os._exit(1)
