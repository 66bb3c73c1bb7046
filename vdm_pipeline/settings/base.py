"""What all settings share: frozen, strict sections, a few kinds of number, and the pin of a model."""

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(gt=0, le=10_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=1_000_000)]


class Section(BaseModel):
    """Frozen; unknown keys, infinities and values of another type (``"500"`` for 500) are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelPin(Section):
    """One model, pinned: ``embedded:<name>``, a hub id with its commit, or a local folder with its sha256."""

    id: str = Field(description="embedded:<name>, a hub id (owner/name), or the path of a local folder")
    revision: str | None = Field(None, description="commit of a hub repository, 40 hex digits")
    sha256: str | None = Field(None, description="digest of a local folder, as `python -m vdm_pipeline.stages.models PATH` prints it")
    licence: str = Field(description="licence of the weights, for the report")

    @property
    def source(self) -> Literal["embedded", "folder", "hub"]:
        """Where the model comes from, told by the form of its id."""
        if self.id.startswith("embedded:"):
            return "embedded"
        if self.id.startswith((".", "/", "~")) or self.id.count("/") != 1:
            return "folder"
        return "hub"

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.source == "hub" and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.id):
            raise ValueError(f"'{self.id}' is neither embedded:<name>, nor a hub id owner/name, nor the path of a folder")
        if self.source == "hub" and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError(f"'{self.id}' comes from a hub, so it needs revision = \"<commit, 40 hex digits>\"")
        if self.source == "folder" and not re.fullmatch(r"[0-9a-f]{64}", self.sha256 or ""):
            raise ValueError(
                f"'{self.id}' is a folder, so it needs sha256 = \"<64 hex digits>\"; "
                f"print it with: python -m vdm_pipeline.stages.models {self.id}"
            )
        return self
