"""Guards around the libraries that load models: clear errors for damaged folders, and no remote code."""

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vdm_pipeline.errors import ModelError, PipelineError

REMOTE_CODE_KEYS = {"auto_map", "trust_remote_code"}
"""Configuration keys that make transformers run Python code from a model's repository, or offer to."""
MAX_MESSAGE = 160
"""Length of a library's message in our error, characters."""


@contextmanager
def loading(path: Path) -> Iterator[None]:
    """Turn the libraries' errors about a damaged or foreign model at ``path`` into `ModelError`.

    An error while a library is imported is not the model's: an environment variable or the installation is
    wrong. Out-of-memory errors pass unchanged.
    """
    try:
        yield
    except (PipelineError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's; torch is not imported here
            raise
        cause = _root_cause(error)
        message = " ".join(str(cause).split())[:MAX_MESSAGE]
        library = _imported_library(cause)
        if library:
            raise ModelError(
                f"{library} cannot be imported ({type(cause).__name__}: {message}); correct the environment "
                "variables that it reads, or install the versions in constraints.txt."
            ) from None
        raise ModelError(
            f"{path} cannot be loaded ({type(cause).__name__}: {message}); "
            "put intact files of the model there, and pin them in the profile."
        ) from None


def reject_remote_code(folder: Path) -> None:
    """Raise `ModelError` if a configuration requests remote code: a pin covers weights, not code."""
    for path in sorted(folder.rglob("*config.json")):
        with loading(folder):
            requested = REMOTE_CODE_KEYS & _keys(json.loads(path.read_text(encoding="utf-8")))
        if requested:
            raise ModelError(
                f"{path} requests remote code ('{min(requested)}'), which is never run; "
                "use a model that needs none."
            )


def _keys(value: Any) -> set[str]:
    """All keys of a configuration, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(_keys, value.values()))
    if isinstance(value, list):
        return set().union(*map(_keys, value))
    return set()


def _imported_library(error: BaseException) -> str | None:
    """The package whose import raised the error."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "<module>":
            return str(frame.f_globals["__name__"]).partition(".")[0]
    return None


def _root_cause(error: BaseException) -> BaseException:
    """The first error of the chain, which is more specific than the libraries' wrapper."""
    earlier = error.__cause__ or error.__context__
    return _root_cause(earlier) if earlier else error
