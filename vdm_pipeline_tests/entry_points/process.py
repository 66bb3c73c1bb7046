"""A command of Dagster as a user types it, with an empty home folder and nothing exported."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

BIN = Path(sys.executable).parent


def start(command: str, folder: Path, home: Path, **variables: str) -> subprocess.Popen:
    """Start the words of the command in the folder. Both output streams are one pipe."""
    name, *words = command.split()
    return subprocess.Popen(
        [BIN / name, *words],
        cwd=folder,
        env=environment(home, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that a test can send a signal to the whole group, as Ctrl-C does
    )


def run(
    command: str, folder: Path, home: Path, prefix: Sequence[str] = (), **variables: str
) -> tuple[int, str]:
    """Exit code and output of the command. ``prefix`` is a program that starts it."""
    name, *words = command.split()
    result = subprocess.run(
        [*prefix, BIN / name, *words],
        cwd=folder,
        env=environment(home, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return result.returncode, result.stdout


def environment(home: Path, **variables: str) -> dict[str, str]:
    """What a new account has, and the variables."""
    kept = {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
    path = f"{BIN}:/usr/bin:/bin"
    return kept | {"HOME": str(home), "LANG": "C.UTF-8", "PATH": path, "VDM_PROFILE": "demo"} | variables


def files(folder: Path) -> set[str]:
    """Everything in the folder, hidden files included."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
