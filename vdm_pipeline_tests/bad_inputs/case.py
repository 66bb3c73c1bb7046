"""Helpers of the tests of bad inputs: a case, a snapshot of a folder, and a process without root's rights."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Case(NamedTuple):
    """A bad input. ``make`` creates it; the error must name ``field``: a setting, variable, file or asset."""

    title: str
    field: str
    make: Callable[..., Any]


def parametrize(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Run a test once for every case, with its title as the test's id."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.title) for case in cases])


BOOKKEEPING = re.compile(
    r"results|results/\.lock|results/\.manifests(/\w+\.attempt)?|(data|results)/\.staging(/.*)?"
)
"""Paths that a failed run may create: the lock, its count of attempts, and an empty staging folder."""


def snapshot(root: Path) -> dict[str, bytes | str]:
    """Content of a folder by relative path: bytes of files, targets of links, kinds of the rest.

    What a failed run may create is left out, but for files in a staging folder.
    """
    content: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        is_file = path.is_file() and not path.is_symlink()
        if BOOKKEEPING.fullmatch(name) and not (is_file and ".staging" in name):
            continue
        content[name] = path.read_bytes() if is_file else _kind(path)
    return content


def _kind(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    return "folder" if path.is_dir() else "other"


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run the block as the user ``nobody`` if the process is root, who may read every file."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(user)
