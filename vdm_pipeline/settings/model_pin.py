"""The pin of one model: by commit and hashes, by a folder's hash, or embedded in the package."""

import json
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from vdm_pipeline.errors import ModelError
from vdm_pipeline.settings.base import RepositoryPath, Section, Sha256, Text

EMBEDDED = Path(__file__).parents[1] / "embedded"


class ModelPin(Section):
    """One model: ``embedded:<name>``, a hub id with commit and weights, or a local folder with its sha256."""

    id: Text = Field(description="embedded:<name>, a hub id (owner/name), or the path of a local folder")
    revision: str | None = Field(None, description="commit of a hub repository, 40 hex digits")
    weights: dict[RepositoryPath, Sha256] | None = Field(
        None,
        description="hub: sha256 of each weight file to download, by its path in the repository; "
        "no other weight file is downloaded",
    )
    sha256: str | None = Field(
        None, description="digest of a local folder, as `python -m vdm_pipeline.stages.models PATH` prints it"
    )
    licence: Text = Field(description="licence of the weights, shown in the report")

    @property
    def source(self) -> Literal["embedded", "folder", "hub"]:
        """The kind of source, by the form of the id."""
        if self.id.startswith("embedded:"):
            return "embedded"
        if self.id.startswith((".", "/", "~")) or self.id.count("/") != 1:
            return "folder"
        return "hub"

    @property
    def digest(self) -> str:
        """What identifies the pinned model without reading it: the commit, or the folder's sha256.

        Raises `ModelError` for an embedded model that does not exist.
        """
        if self.source == "hub":
            return str(self.revision)
        if self.source == "folder":
            return str(self.sha256)
        pins = json.loads((EMBEDDED / "pins.json").read_text(encoding="utf-8"))
        name = self.id.removeprefix("embedded:")
        if name not in pins:
            raise ModelError(f"There is no embedded model '{name}'; use one of: {', '.join(sorted(pins))}.")
        return str(pins[name])

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if "://" in self.id:
            raise ValueError(
                f"'{self.id}' is an address; "
                "write the id of a hub repository, owner/name, or the path of a folder"
            )
        if self.source == "hub":
            self._check_hub_pin()
        if self.source == "folder" and not re.fullmatch(r"[0-9a-f]{64}", self.sha256 or ""):
            raise ValueError(
                f"'{self.id}' is a folder, so it needs sha256 = \"<64 hex digits>\"; "
                f"print it with: python -m vdm_pipeline.stages.models {self.id}"
            )
        return self

    def _check_hub_pin(self) -> None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.id):
            raise ValueError(
                f"'{self.id}' is neither embedded:<name>, nor a hub id owner/name, nor the path of a folder"
            )
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError(
                f"'{self.id}' comes from a hub, so it needs revision = \"<commit, 40 hex digits>\""
            )
        if self.weights is None:
            raise ValueError(
                f'\'{self.id}\' comes from a hub, so it needs weights = {{ "<file>" = "<sha256>" }}; '
                f"print them with: python -m vdm_pipeline.stages.models {self.id} {self.revision}"
            )
