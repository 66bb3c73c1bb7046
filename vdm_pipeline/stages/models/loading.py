"""Guards around the libraries that load models: clear errors for damaged folders, and no code from a model's repository."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vdm_pipeline.errors import ModelError, PipelineError

REMOTE_CODE_KEYS = {"auto_map", "trust_remote_code"}
"""Configuration keys by which transformers runs Python code from a model's repository, or asks at the terminal whether to."""
MAX_MESSAGE = 160
"""Characters of a library's message that our error repeats."""


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
        said = " ".join(str(cause).split())[:MAX_MESSAGE]
        raise ModelError(
            f"{what} cannot be loaded ({type(cause).__name__}: {said}); put intact files of the model there, and pin them in the profile."
        ) from None


def reject_remote_code(folder: Path) -> None:
    """Raise `ModelError` if a configuration of the model asks for code to be run: a pin is of weights, and no one has read that code."""
    for path in sorted(folder.rglob("*config.json")):
        with loading(folder):
            asked = REMOTE_CODE_KEYS & _keys(json.loads(path.read_text(encoding="utf-8")))
        if asked:
            raise ModelError(
                f"{path} asks for code to be run ('{min(asked)}'), which is never done; take a model that needs none."
            )


def _keys(value: Any) -> set[str]:
    """All keys of a configuration, at any depth."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (set(value) if isinstance(value, dict) else set()).union(*map(_keys, inside))


def _cause(error: BaseException) -> BaseException:
    """What the libraries' own error came from: it says more than they do."""
    earlier = error.__cause__ or error.__context__
    return _cause(earlier) if earlier else error
