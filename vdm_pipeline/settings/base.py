"""What all settings share: frozen, strict sections, and types of numbers, names and addresses."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_NAME, MAX_TEXT = 64, 1000
"""Characters; names become parts of file names, which systems limit to 255 bytes."""


def _one_line(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text):
        raise ValueError("must be one line without control characters")
    if len(text) > MAX_TEXT:
        raise ValueError(f"must have at most {MAX_TEXT} characters, but has {len(text)}")
    return text


def _plain_name(name: str) -> str:
    if not re.fullmatch(rf"[a-z0-9][a-z0-9_-]{{0,{MAX_NAME - 1}}}", name):
        raise ValueError(
            "must be lower-case letters, digits, '-' and '_', beginning with a letter or a digit, "
            f"at most {MAX_NAME} characters"
        )
    return name


def _sha256(digest: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError("must be 64 hex digits, as sha256sum prints them")
    return digest


def _plain_path(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) or {".", ".."} & set(name.split("/")):
        raise ValueError("must be the path of a file in the repository, such as 'unet/weights.safetensors'")
    return name


def _plain_url(url: str) -> str:
    label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    match = re.fullmatch(
        rf"https?://({label}(\.{label})*|\[[0-9A-Fa-f:]+\])(:(?P<port>\d{{1,5}}))?(/[\w.~%-]+)*/?",
        url,
        re.ASCII,
    )
    if not match or int(match["port"] or 80) not in range(1, 2**16):
        raise ValueError(
            "must be the http or https address of a folder, such as 'https://example.org/medmnist', "
            "without user, query or #"
        )
    return url.rstrip("/")


Text = Annotated[str, AfterValidator(_one_line)]
"""One line in any script. Markup is allowed, as it is escaped wherever it is shown."""
Name = Annotated[str, AfterValidator(_plain_name)]
"""Becomes a column, a folder or part of a file name."""
RepositoryPath = Annotated[str, AfterValidator(_plain_path)]
"""Path of a file in a repository."""
FolderUrl = Annotated[str, AfterValidator(_plain_url)]
"""Address of a server's folder, to which a file name is appended."""
Sha256 = Annotated[str, AfterValidator(_sha256)]
Count = Annotated[int, Field(gt=0, le=10_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=1_000_000)]


class Section(BaseModel):
    """Frozen. Rejects unknown keys, infinities and values of another type (``"500"`` for 500)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def fingerprint_values(self, **chosen: Any) -> dict[str, Any]:
        """The values that decide a result, as JSON types: all but the licences, which are only shown.

        ``chosen`` is passed to `model_dump`, such as ``exclude={"seed"}``.
        """
        return dict(_without_licences(self.model_dump(mode="json", **chosen)))


def _without_licences(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_licences(inner) for key, inner in value.items() if key != "licence"}
    return [_without_licences(inner) for inner in value] if isinstance(value, list) else value
