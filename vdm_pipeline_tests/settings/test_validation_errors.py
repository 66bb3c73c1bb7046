"""Each rejected value of a profile is explained in words of TOML, whatever pydantic calls it."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline.settings.validation_errors import describe

VALUES = (
    5,
    -1,
    0,
    10**12,
    10**400,
    2.5,
    -2.5,
    float("nan"),
    float("inf"),
    "x",
    "",
    True,
    [],
    [[]],
    {},
    {"a": 1},
)
PROFILE = json.loads(load_profile("sd15").model_dump_json())
PROFILE["data"] |= {
    "dataset": "mine",
    "source": "file",
    "own": {"channels": 1, "sha256": "0" * 64, "licence": "CC0"},
}
PROFILE["generation"]["extra"] = [{"name": "dpm25", "num_inference_steps": 25}]
SCHEMA = Profile.model_json_schema()


def places(value: Any, *place: str | int) -> Iterator[tuple[str | int, ...]]:
    """The path of every value, sections and lists included."""
    if place:
        yield place
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in entries:
        yield from places(inner, *place, key)


def described(place: tuple[str | int, ...], value: Any) -> str | None:
    """What is wrong if this value is in this place; None if it is accepted."""
    profile = copy.deepcopy(PROFILE)
    target = profile
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    try:
        Profile.model_validate_json(json.dumps(profile))
    except ValidationError as error:
        return describe(error, SCHEMA)
    return None


def test_no_value_in_any_place_gets_a_sentence_of_pydantic():
    every = [*places(PROFILE)]
    sentences = {
        sentence for place in every for value in VALUES if (sentence := described(place, value)) is not None
    }
    assert len(every) > 100 and len(sentences) > 500
    assert [one for one in sentences if re.search(r" should |a valid|Unable|\n", one)] == []


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("name", 5, "name: must be a text in quotes (it is 5)"),
        ("evaluation", 5, "evaluation: must be a section, [evaluation] (it is 5)"),
        ("evaluation", [], "evaluation: must be a section, [evaluation] (it is a list)"),
        ("training.base", "x", "training.base: must be a section, [training.base] (it is 'x')"),
        (
            "training.base.weights",
            1,
            "training.base.weights: must be a section, [training.base.weights] (it is 1)",
        ),
        ("generation.extra", {}, "generation.extra: must be a list (it is a section)"),
        ("training.rank", 8.5, "training.rank: must be a whole number (it is 8.5)"),
        ("training.rank", 0, "training.rank: must be from 1 to 1,024 (it is 0)"),
        ("training.seed", 10**6, "training.seed: must be from 0 to 999,999 (it is 1000000)"),
        ("training.lr_warmup_steps", -1, "training.lr_warmup_steps: must be at least 0 (it is -1)"),
        ("training.learning_rate", 0, "training.learning_rate: must be above 0 and at most 1 (it is 0)"),
        ("training.learning_rate", "1", "training.learning_rate: must be a number (it is '1')"),
        ("training.ema_decay", 1.0, "training.ema_decay: must be above 0 and below 1 (it is 1.0)"),
        ("training.alpha", -1, "training.alpha: must be above 0 (it is -1)"),
        (
            "training.max_grad_norm",
            float("inf"),
            "training.max_grad_norm: must be a finite number (it is inf)",
        ),
        ("training.use_dora", 1, "training.use_dora: must be true or false (it is 1)"),
        ("checks.max_ece", 2, "checks.max_ece: must be from 0 to 1 (it is 2)"),
        ("execution.ray.workers", True, "execution.ray.workers: must be a whole number (it is true)"),
        ("data.size", 30, "data.size: must be 28, 32, 64, 128 or 224 (it is 30)"),
        (
            "data.own.sha256",
            "0" * 63,
            f"data.own.sha256: must be 64 hex digits, as sha256sum prints them (it is '{'0' * 63}')",
        ),
    ],
)
def test_the_sentence_says_what_the_value_must_be(place, value, sentence):
    assert described(tuple(place.split(".")), value) == sentence


def test_an_entry_of_a_list_of_sections_is_named_with_its_header():
    assert described(("generation", "extra", 0), 5) == (
        "generation.extra.0: must be a section, [[generation.extra]] (it is 5)"
    )
