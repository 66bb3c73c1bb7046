"""From a model pin to a local folder whose content is the pinned one. Everything downstream loads folders."""

import os
from collections.abc import Callable
from pathlib import Path

from vdm_pipeline.errors import ModelError
from vdm_pipeline.io.hashing import folder_digest
from vdm_pipeline.settings import ModelPin
from vdm_pipeline.settings.base import EMBEDDED


def resolve_model(pin: ModelPin, log: Callable[[str], None] = print) -> Path:
    """Folder of the pinned model: inside the package, on this disk, or fetched from the hub at its commit.

    Raises `ModelError` if the folder is missing, its content is not the pinned one, or the hub refuses, and `NetworkError` if it
    cannot be reached.
    """
    if pin.source == "hub":
        from vdm_pipeline.stages.models.hub import fetch_repository

        return fetch_repository(pin, log)
    folder = (
        EMBEDDED / pin.id.removeprefix("embedded:")
        if pin.source == "embedded"
        else Path(os.path.expanduser(pin.id))
    )
    if not folder.is_dir():
        raise ModelError(f"Model folder {folder} does not exist; correct the id '{pin.id}' in the profile.")
    expected = pin.digest
    actual = folder_digest(folder)
    if actual != expected:
        raise ModelError(
            f"Model folder {folder} has sha256 {actual}, but {expected} is pinned; restore the files, or pin the new ones on purpose."
        )
    return folder


def pin_name(pin: ModelPin) -> str:
    """Id and pin together, ``id@commit`` or ``id@sha256``: what records call the model."""
    return f"{pin.id}@{pin.digest}"
