"""Read a profile from a TOML file, with one clear sentence for whatever is wrong with it."""

import json
import os
import tomllib
from pathlib import Path

from pydantic import ValidationError

from vdm_pipeline.errors import SettingsError
from vdm_pipeline.settings.profile import Profile
from vdm_pipeline.settings.validation_errors import describe

PROFILES = Path(__file__).parents[1] / "profiles"
DEFAULT_PROFILE = "demo"
MAX_BYTES = 2**20
"""Largest size of a profile file."""


def load_profile(name: str | None = None) -> Profile:
    """Load a shipped profile by name, or any by path; without a name ``$VDM_PROFILE``, else ``demo``.

    Raises `SettingsError` for an unknown name, a file that is not TOML, or a value that is not allowed.
    """
    source = "The profile" if name else "VDM_PROFILE"
    name = name or os.environ.get("VDM_PROFILE") or DEFAULT_PROFILE
    shipped = {path.stem: path for path in sorted(PROFILES.glob("*.toml"))}
    path = Path(name) if name.endswith(".toml") else shipped.get(name)
    if path is None or not _is_file(path):
        raise SettingsError(
            f"{source} is {name!r}, which is neither a shipped profile ({', '.join(shipped)}) "
            "nor a .toml file that exists; correct it."
        )
    try:
        return Profile.model_validate_json(_read_as_json(path))
    except ValidationError as error:
        raise SettingsError(f"{path}: {describe(error, Profile.model_json_schema())}.") from None


def _read_as_json(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise SettingsError(
                f"{path} is longer than {MAX_BYTES} bytes, so it is not a profile; set another file."
            )
        # utf-8-sig: some editors start a file with a byte order mark
        return json.dumps(tomllib.loads(content.decode("utf-8-sig")))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}); correct its permissions.") from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path} is not valid TOML: byte {error.start} is not UTF-8; save it as UTF-8."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from None
    except RecursionError:
        raise SettingsError(f"{path} is nested too deeply; use only sections, keys and lists.") from None
    except TypeError:
        raise SettingsError(
            f"{path} holds a date or a time, which no key accepts; put it in quotes."
        ) from None
    except ValueError:
        raise SettingsError(
            f"{path} holds a number of thousands of digits, which no key accepts; write a smaller one."
        ) from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system
        return False
