"""What all settings share: frozen, strict sections, a few kinds of number, and the pin of a model."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from vdm_pipeline.errors import ModelError

EMBEDDED = Path(__file__).parents[1] / "embedded"
LONGEST_NAME, LONGEST_TEXT = 64, 1000
"""Characters; names become parts of file names, which systems limit to 255 bytes."""


def _one_line(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text):
        raise ValueError("must be one line without control characters")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"must have {LONGEST_TEXT} characters at most, and has {len(text)}")
    return text


def _plain_name(name: str) -> str:
    if not re.fullmatch(rf"[a-z0-9][a-z0-9_-]{{0,{LONGEST_NAME - 1}}}", name):
        raise ValueError(f"must be lower-case letters, digits, '-' and '_', {LONGEST_NAME} at most")
    return name


def _plain_path(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) or {".", ".."} & set(name.split("/")):
        raise ValueError("must be the path of a file in the repository, such as 'unet/weights.safetensors'")
    return name


def _plain_url(url: str) -> str:
    label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    found = re.fullmatch(
        rf"https?://({label}(\.{label})*|\[[0-9A-Fa-f:]+\])(:(?P<port>\d{{1,5}}))?(/[\w.~%-]+)*/?",
        url,
        re.ASCII,
    )
    if not found or int(found["port"] or 80) not in range(1, 2**16):
        raise ValueError(
            "must be the http or https address of a folder, such as 'https://example.org/medmnist', without user, query or #"
        )
    return url.rstrip("/")


def _ray_address(address: str) -> str:
    found = re.fullmatch(r"(ray://)?[A-Za-z0-9._-]+:(?P<port>\d{1,5})", address, re.ASCII)
    if address != "auto" and (not found or int(found["port"]) not in range(1, 2**16)):
        raise ValueError(
            "must be auto, host:port or ray://host:port; leave it out for a cluster of this machine alone"
        )
    return address


def _gpu_share(gpus: float) -> float:
    if gpus and not 0.01 <= gpus <= 1 and gpus not in range(2, 65):  # Ray has no halves of more than one
        raise ValueError("must be 0, a share of one GPU such as 0.5, or a whole number of them")
    return gpus


Text = Annotated[str, AfterValidator(_one_line)]
"""Words of any script, and markup too, which is escaped wherever it is shown."""
Name = Annotated[str, AfterValidator(_plain_name)]
"""What becomes a column, a folder or part of a file name."""
RepositoryPath = Annotated[str, AfterValidator(_plain_path)]
"""Of a file in a repository."""
RayAddress = Annotated[str, AfterValidator(_ray_address)]
GpuShare = Annotated[float, AfterValidator(_gpu_share)]
"""Of a cluster."""
FolderUrl = Annotated[str, AfterValidator(_plain_url)]
"""Of a server's folder; a file's name is appended to it."""
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(gt=0, le=10_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=1_000_000)]


class Section(BaseModel):
    """Frozen; unknown keys, infinities and values of another type (``"500"`` for 500) are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def fingerprint_values(self, **chosen: Any) -> dict[str, Any]:
        """What decides a result, as JSON has it: all, or what `model_dump` would choose, but the licences, which are only told."""
        return dict(_without_licences(self.model_dump(mode="json", **chosen)))


def _without_licences(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_licences(inner) for key, inner in value.items() if key != "licence"}
    return [_without_licences(inner) for inner in value] if isinstance(value, list) else value


class ModelPin(Section):
    """One model, pinned: ``embedded:<name>``, a hub id with its commit and weights, or a local folder with its sha256."""

    id: Text = Field(description="embedded:<name>, a hub id (owner/name), or the path of a local folder")
    revision: str | None = Field(None, description="commit of a hub repository, 40 hex digits")
    weights: dict[RepositoryPath, Sha256] | None = Field(
        None,
        description="hub: sha256 of each weight file that is fetched, by its name in the repository; nothing else of its kind is",
    )
    sha256: str | None = Field(
        None, description="digest of a local folder, as `python -m vdm_pipeline.stages.models PATH` prints it"
    )
    licence: Text = Field(description="licence of the weights, for the report")

    @property
    def source(self) -> Literal["embedded", "folder", "hub"]:
        """Where the model comes from, told by the form of its id."""
        if self.id.startswith("embedded:"):
            return "embedded"
        if self.id.startswith((".", "/", "~")) or self.id.count("/") != 1:
            return "folder"
        return "hub"

    @property
    def digest(self) -> str:
        """What identifies the pinned model without reading it: the hub commit, or the sha256 of the folder.

        Raises `ModelError` for an embedded model that does not exist.
        """
        if self.source == "hub":
            return str(self.revision)
        if self.source == "folder":
            return str(self.sha256)
        pins = json.loads((EMBEDDED / "pins.json").read_text(encoding="utf-8"))
        name = self.id.removeprefix("embedded:")
        if name not in pins:
            raise ModelError(f"There is no embedded model '{name}'; take one of: {', '.join(sorted(pins))}.")
        return str(pins[name])

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if "://" in self.id:
            raise ValueError(
                f"'{self.id}' is an address; write the id of a hub's repository, owner/name, or the path of a folder"
            )
        if self.source == "hub" and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.id):
            raise ValueError(
                f"'{self.id}' is neither embedded:<name>, nor a hub id owner/name, nor the path of a folder"
            )
        if self.source == "hub" and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError(
                f"'{self.id}' comes from a hub, so it needs revision = \"<commit, 40 hex digits>\""
            )
        if self.source == "hub" and self.weights is None:
            raise ValueError(
                f'\'{self.id}\' comes from a hub, so it needs weights = {{ "<file>" = "<sha256>" }}; '
                f"print them with: python -m vdm_pipeline.stages.models {self.id} {self.revision}"
            )
        if self.source == "folder" and not re.fullmatch(r"[0-9a-f]{64}", self.sha256 or ""):
            raise ValueError(
                f"'{self.id}' is a folder, so it needs sha256 = \"<64 hex digits>\"; "
                f"print it with: python -m vdm_pipeline.stages.models {self.id}"
            )
        return self
