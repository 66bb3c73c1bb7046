"""Resolve a model pin to a local folder and verify its content. All other code loads models from folders."""

import os
from pathlib import Path

from vdm_pipeline.errors import ModelError
from vdm_pipeline.io.hashing import folder_digest
from vdm_pipeline.io.progress import Log
from vdm_pipeline.settings import EMBEDDED, ModelPin


def resolve_model(pin: ModelPin, log: Log = print) -> Path:
    """Folder of the pinned model: in the package, on this disk, or fetched from the hub at the pinned commit.

    Raises `ModelError` if the folder is missing, its content differs from the pin, or the hub refuses, and
    `NetworkError` if the hub cannot be reached.
    """
    if pin.source == "hub":
        from vdm_pipeline.stages.models.hub import fetch_repository

        return fetch_repository(pin, log)
    if pin.source == "embedded":
        folder = EMBEDDED / pin.id.removeprefix("embedded:")
    else:
        folder = Path(os.path.expanduser(pin.id))  # unlike Path.expanduser, it accepts an unknown user
    if not folder.is_dir():
        raise ModelError(f"Model folder {folder} does not exist; correct the id '{pin.id}' in the profile.")
    pinned, actual = pin.digest, folder_digest(folder)
    if actual != pinned:
        raise ModelError(
            f"Model folder {folder} has sha256 {actual}, but {pinned} is pinned; "
            "restore the files, or pin the new digest."
        )
    return folder


def pin_name(pin: ModelPin) -> str:
    """Name of the model in records: ``id@commit`` or ``id@sha256``."""
    return f"{pin.id}@{pin.digest}"
