"""From a model pin to a local folder whose content is the pinned one. Everything downstream loads folders."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vdm_pipeline.errors import ModelError, PipelineError
from vdm_pipeline.io.manifest import file_sha256
from vdm_pipeline.settings import ModelPin

EMBEDDED = Path(__file__).parents[1] / "embedded"
USAGE = "python -m vdm_pipeline.stages.models PATH, or OWNER/NAME COMMIT"
CODE = {"auto_map", "trust_remote_code"}
"""By these keys a configuration has transformers run Python code that comes with a model, or ask at the terminal whether to."""
SHOWN = 160
"""Characters of a library's complaint that a sentence repeats."""


def resolve_model(pin: ModelPin, log: Callable[[str], None] = print) -> Path:
    """Folder of the pinned model: inside the package, on this disk, or fetched from the hub at its commit.

    Raises `ModelError` if the folder is missing, its content is not the pinned one, or the hub refuses, and `NetworkError` if it
    cannot be reached.
    """
    if pin.source == "hub":
        from vdm_pipeline.stages.hub import fetch_repository

        return fetch_repository(pin, log)
    folder = EMBEDDED / pin.id.removeprefix("embedded:") if pin.source == "embedded" else Path(os.path.expanduser(pin.id))
    if not folder.is_dir():
        raise ModelError(f"Model folder {folder} does not exist; correct the id '{pin.id}' in the profile.")
    expected = pinned_digest(pin)
    actual = folder_digest(folder)
    if actual != expected:
        raise ModelError(
            f"Model folder {folder} has sha256 {actual}, but {expected} is pinned; restore the files, or pin the new ones on purpose."
        )
    return folder


def pinned_digest(pin: ModelPin) -> str:
    """What identifies the pinned model without reading it: the commit, or the sha256 of the folder."""
    if pin.source == "hub":
        return str(pin.revision)
    if pin.source == "folder":
        return str(pin.sha256)
    pins = json.loads((EMBEDDED / "pins.json").read_text(encoding="utf-8"))
    name = pin.id.removeprefix("embedded:")
    if name not in pins:
        raise ModelError(f"There is no embedded model '{name}'; take one of: {', '.join(sorted(pins))}.")
    return str(pins[name])


def pin_name(pin: ModelPin) -> str:
    """Id and pin together, ``id@commit`` or ``id@sha256``: what records call the model."""
    return f"{pin.id}@{pinned_digest(pin)}"


def folder_digest(folder: Path) -> str:
    """Sha256 over names and bytes of a folder's files, as `folder_hashes` has them."""
    digest = hashlib.sha256()
    for name, found in folder_hashes(folder).items():
        digest.update(name.encode() + b"\0" + bytes.fromhex(found))
    return digest.hexdigest()


def folder_hashes(folder: Path) -> dict[str, str]:
    """Sha256 of a folder's files by name, in sorted order; hidden files, cards (``*.md``) and half downloads do not count."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if not name.endswith((".md", ".part")) and not any(part.startswith((".", "__")) for part in name.split("/")):
            found[name] = file_sha256(path)
    return found


@contextmanager
def loading(what: Path) -> Iterator[None]:
    """Turn whatever the libraries raise of a damaged or foreign model into a `ModelError`; memory that does not suffice passes."""
    try:
        yield
    except (PipelineError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        cause = _cause(error)
        said = " ".join(str(cause).split())[:SHOWN]
        raise ModelError(
            f"{what} cannot be loaded ({type(cause).__name__}: {said}); put intact files of the model there, and pin them in the profile."
        ) from None


def refuse_code(folder: Path) -> None:
    """Raise `ModelError` if a configuration of the model asks for code to be run: a pin is of weights, and no one has read that code."""
    for path in sorted(folder.rglob("*config.json")):
        with loading(folder):
            asked = CODE & _keys(json.loads(path.read_text(encoding="utf-8")))
        if asked:
            raise ModelError(f"{path} asks for code to be run ('{min(asked)}'), which is never done; take a model that needs none.")


def _keys(value: Any) -> set[str]:
    """All keys of a configuration, at any depth."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (set(value) if isinstance(value, dict) else set()).union(*map(_keys, inside))


def _cause(error: BaseException) -> BaseException:
    """What the libraries' own error came from: it says more than they do."""
    earlier = error.__cause__ or error.__context__
    return _cause(earlier) if earlier else error


def main(arguments: list[str]) -> int:
    """Print what a pin needs, of a folder or of a hub's repository at a commit; the exit status."""
    if len(arguments) == 2:
        return _print_weights(*arguments)
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        given = repr(arguments[0]) + " is no folder" if len(arguments) == 1 else f"{len(arguments)} arguments were given"
        print(f"{given}; name the folder of one model, or a hub id and its commit: {USAGE}", file=sys.stderr)
        return 2
    print(folder_digest(Path(arguments[0])))
    return 0


def _print_weights(repository: str, revision: str) -> int:
    from vdm_pipeline.stages.hub import weights_at

    try:
        for name, digest in weights_at(repository, revision).items():
            print(f'"{name}" = "{digest}"')
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
