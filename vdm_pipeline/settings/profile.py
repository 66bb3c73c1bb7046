"""A profile: every value of a run, read from one TOML file."""

import hashlib
import json
import os
import tomllib
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from vdm_pipeline.errors import SettingsError
from vdm_pipeline.settings.base import ModelPin, Section, Text
from vdm_pipeline.settings.running import Automation, Checks, Execution
from vdm_pipeline.settings.sections import (
    Classes,
    Data,
    Evaluation,
    Faults,
    Generation,
    Labelling,
    Subset,
    Training,
)

PROFILES = Path(__file__).parents[1] / "profiles"
DEFAULT_PROFILE = "demo"
MAX_BYTES = 2**20
"""Of a profile; nobody writes a longer one."""
SHOWN = 80
"""Characters of a refused value that its sentence repeats."""


class Profile(Section):
    """Every value of a run."""

    name: Text = Field(description="stands on everything that the run writes")
    data: Data
    classes: Classes
    labelling: Labelling
    faults: Faults = Faults()
    subset: Subset
    training: Training
    generation: Generation
    evaluation: Evaluation = Evaluation()
    checks: Checks = Checks()
    automation: Automation = Automation()
    execution: Execution = Execution()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.labelling.phrases) != len(self.classes.names):
            raise ValueError(
                f"labelling.phrases has {len(self.labelling.phrases)} lists for {len(self.classes.names)} classes; give one list a class"
            )
        if self.execution.num_processes > self.training.batch_size:
            raise ValueError(
                f"execution.num_processes = {self.execution.num_processes} is more than training.batch_size = {self.training.batch_size} images"
            )
        if self.data.source == "phantom" and len(self.classes.names) != 2:
            raise ValueError("phantoms have two classes, normal and pneumonia; classes.names must have two")
        return self

    def models(self) -> dict[str, ModelPin]:
        """Every model of the run, by its role."""
        found = {
            "labeller": self.labelling.model,
            "labeller_text": self.labelling.text_model,
            "base": self.training.base,
            "lcm_lora": self.generation.lcm_lora,
            "features": self.evaluation.features,
        }
        return {role: pin for role, pin in found.items() if pin}


def load_profile(name: str | None = None) -> Profile:
    """Load a profile by the name of a shipped one or by a path; without a name, ``$VDM_PROFILE`` or ``demo``.

    Raises `SettingsError` with one sentence for an unknown name, a file that is no TOML, or a value that is refused.
    """
    name = name or os.environ.get("VDM_PROFILE") or DEFAULT_PROFILE
    shipped = {path.stem: path for path in sorted(PROFILES.glob("*.toml"))}
    path = Path(name) if name.endswith(".toml") else shipped.get(name)
    if path is None or not _is_file(path):
        known = ", ".join(shipped)
        raise SettingsError(
            f"VDM_PROFILE is {name!r}, which is neither a shipped profile ({known}) nor a .toml file that exists."
        )
    try:
        return Profile.model_validate_json(_as_json(path))
    except ValidationError as error:
        raise SettingsError(f"{path}: {_first_fault(error)}.") from None


def _as_json(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise SettingsError(
                f"{path} is longer than {MAX_BYTES} bytes, so it is no profile; name another file."
            )
        return json.dumps(
            tomllib.loads(content.decode("utf-8-sig"))
        )  # some editors begin a file with a byte order mark
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}); correct its permissions.") from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path} is no valid TOML: byte {error.start} is not UTF-8; save it as UTF-8."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is no valid TOML: {error}.") from None
    except RecursionError:
        raise SettingsError(
            f"{path} is nested too deeply; a profile has sections, keys and lists alone."
        ) from None
    except TypeError:
        raise SettingsError(f"{path} holds a date or a time, which no key takes; put it in quotes.") from None
    except ValueError:
        raise SettingsError(
            f"{path} holds a number of thousands of digits, which no key takes; write a smaller one."
        ) from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system
        return False


def fingerprint(*values: Section | str | int | dict | list | None) -> str:
    """Sixteen hex digits that change when any of the values changes; of a section, what is `asked`."""
    plain = [value.fingerprint_values() if isinstance(value, Section) else value for value in values]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _first_fault(error: ValidationError) -> str:
    faults = [
        fault for fault in error.errors() if fault["type"] != "too_short"
    ] or error.errors()  # a list is short of a refused entry
    fault = next(
        (fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0]
    )  # a misspelt key is also a missing one
    field = ".".join(str(part) for part in fault["loc"]) or "the profile"
    more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{field}'; remove it or correct its spelling{more}"
    if fault["type"] == "missing":
        return f"'{field}' is missing{more}"
    if fault["type"] == "too_short":
        return f"'{field}' has {fault['ctx']['actual_length']} entries and needs {fault['ctx']['min_length']} at least{more}"
    value = fault["input"]
    given = f" (it is {_shortened(repr(value))})" if isinstance(value, str | int | float | bool) else ""
    return f"{field}: {fault['msg'].removeprefix('Value error, ')}{given}{more}"


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… and so on"
