"""Runs a command in a pseudo-terminal."""

import fcntl
import os
import pty
import re
import struct
import termios
import time
from dataclasses import dataclass
from pathlib import Path

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?[349][0-9][0-9;]*m")
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


@dataclass
class Terminal:
    """What a command wrote to its terminal, and its exit code."""

    raw: str
    returncode: int

    @property
    def lines(self) -> list[str]:
        """The lines without control sequences; of a line that was overwritten, each version."""
        return [line for line in re.split(r"[\r\n]+", CONTROL.sub("", self.raw)) if line.strip()]


def run_in_terminal(
    command: list[str],
    folder: Path,
    environment: dict[str, str],
    *,
    columns: int = 100,
    keys: str = "",
    after: str = "",
) -> Terminal:
    """Run the command; press ``keys`` once it has written ``after``."""
    process, descriptor = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.execve(command[0], command, environment)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    written, until = b"", time.monotonic() + 60
    while time.monotonic() < until:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
        if keys and after.encode() in written:
            os.write(descriptor, keys.encode())
            keys = ""
    os.close(descriptor)
    _, status = os.waitpid(process, 0)
    return Terminal(written.decode(), os.waitstatus_to_exitcode(status))
