"""A case of the catalogue docs/bad_inputs.md: its title, the sentence that it gets, and how it is made."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Case(NamedTuple):
    """``said`` is the sentence as the document shows it: whole, but for what ``…`` stands for."""

    title: str
    said: str
    make: Callable[..., Any]


def each(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """A test for every case, called by its title."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.title) for case in cases])


def check(case: Case, sentence: str) -> None:
    """The sentence is the one of the document, and one line."""
    pattern = ".+".join(re.escape(part) for part in case.said.split("…"))
    assert re.fullmatch(pattern, sentence), f"{case.title}: {sentence}"


OWN_NOTES = re.compile(
    r"results|results/\.lock|results/\.manifests(/\w+\.tried)?|(data|results)/\.staging(/.*)?"
)
"""What a run that stopped may leave: the lock, that it was tried, and an empty working folder."""


def snapshot(root: Path) -> dict[str, bytes | str]:
    """What stands in a folder: bytes of files, targets of links, kinds of the rest; notes of our own do not count."""
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        whole = path.is_file() and not path.is_symlink()
        if OWN_NOTES.fullmatch(name) and not (whole and ".staging" in name):
            continue
        kind = f"link to {os.readlink(path)}" if path.is_symlink() else "folder" if path.is_dir() else "other"
        found[name] = path.read_bytes() if whole else kind
    return found


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to read everything."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was == 0:
            os.seteuid(was)
