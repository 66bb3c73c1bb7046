"""Small profiles for tests."""

import json
from pathlib import Path

from vdm_pipeline.settings import Profile, load_profile


def shrink(profile: Profile, **sections: dict) -> Profile:
    """The profile with few phantoms, steps and images; ``sections`` change further values."""
    small: dict[str, dict] = {
        "data": {"train": 80, "val": 24, "test": 24},
        "subset": {"per_class": 8},
        "training": {"max_train_steps": 6, "batch_size": 4, "lr_warmup_steps": 2},
        "generation": {
            "per_class": 3,
            "num_inference_steps": 2,
            "extra": ({"name": "dpm2", "scheduler": "dpm", "num_inference_steps": 2},),
        },
        "evaluation": {"judge_epochs": 1, "bootstrap": 50, "utility_epochs": 1, "utility_seeds": 1},
        "execution": {"device": "cpu", "generation_batch_size": 4, "checkpoint_every": 2, "log_every": 2},
    }
    values = profile.model_dump()
    for changes in (small, sections):
        for name, section in changes.items():
            values[name] = {**values[name], **section}
    return Profile.model_validate(values)


def write_profile(path: Path, profile: Profile) -> Path:
    """Write the profile as a TOML file, for other processes."""
    sections = profile.model_dump(mode="json", exclude_none=True)
    lines = [f"name = {_toml(sections.pop('name'))}"]
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n")
    assert load_profile(str(path)) == profile
    return path


def _toml(value: object) -> str:
    """A value as TOML. JSON's numbers, texts, booleans and lists are TOML, too; tables are not."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, list) else json.dumps(value)
