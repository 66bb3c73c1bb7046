"""docs/errors.md: the cases by section, each with its sentence of ``sentences.json``."""

import re
from itertools import groupby
from typing import NamedTuple

from vdm_pipeline_tests.bad_inputs import (
    test_archives,
    test_between_stages,
    test_commands,
    test_folders,
    test_models,
    test_profile_files,
    test_profiles,
    test_project_folder,
    test_root,
)
from vdm_pipeline_tests.bad_inputs.case import Case
from vdm_pipeline_tests.bad_inputs.sentences import COMMAND, load
from vdm_pipeline_tests.paths import ROOT

DOCUMENT = ROOT / "docs/errors.md"
INTRODUCTION = f"""\
<!-- Generated from vdm_pipeline_tests/bad_inputs/sentences.json; do not edit. -->

# Error catalogue

This page lists bad inputs and the error that you get for each. Most errors are one sentence: the file or
field, what is wrong, and how to fix it.

- `…` stands for a folder of your machine, for a message of a library, or for what differs between the inputs
  of a row.
- An error changes none of your files. A failed run may leave its lock, a count of its attempts, and a folder
  in `data/.staging/` or `results/.staging/`, which the next run resumes from.
- A command that fails exits with a code other than 0.

The tests in `vdm_pipeline_tests/bad_inputs/` create every input, and compare the error and all files. If you
change an error, this command updates the page:

```sh
{COMMAND}
```"""


class Section(NamedTuple):
    """A part of the catalogue."""

    title: str
    introduction: str
    cases: list[Case]


SECTIONS = (
    Section(
        "Values of the profile",
        "The profile is checked before anything is loaded. `mine.toml` stands for your profile.",
        test_profiles.CASES,
    ),
    Section(
        "The profile's file and `VDM_PROFILE`",
        "The file must be readable TOML of at most 1 MiB.",
        test_profile_files.CASES,
    ),
    Section(
        "The project folder of a command",
        "A command of Dagster checks its working directory before it writes anything.",
        test_project_folder.CASES,
    ),
    Section(
        "The project folder and `VDM_ROOT`",
        "Something else may be in the place of a folder that the pipeline writes to.",
        test_root.CASES,
    ),
    Section(
        "The archive in `data/`",
        "`raw_npz` checks the archive before anything is computed from it. `mine.npz` stands for your own\n"
        "archive. The hint for an archive of MedMNIST names MedMNIST.",
        test_archives.CASES,
    ),
    Section(
        "Files between the stages",
        "An asset reads the files of an upstream asset only if they have the hashes in its manifest. If you\n"
        "materialize the edited asset itself, it is recomputed.",
        test_between_stages.CASES,
    ),
    Section(
        "Folders and tables that a stage reads without Dagster",
        "You can call the stages from a notebook, on folders that no manifest guards.",
        test_folders.CASES,
    ),
    Section(
        "Models, adapters and the device",
        "A model is loaded only if its folder has the pinned hash. Here the bad folders are the pinned ones.",
        test_models.CASES,
    ),
    Section(
        "Commands",
        "The exit code is 1, or 2 for wrong arguments. Dagster prints its own lines around an asset's error.",
        test_commands.CASES,
    ),
)
VALUES = (
    (re.compile(r"\(it is .*\)(?=\.$| \(\d+ more\)\.$)"), "(it is …)"),
    (re.compile(r"(?<= is )'[^']*'(?=,)"), "'…'"),
    (re.compile(r"\(\w+(?:Error|Exception): …\)"), "(…)"),
)
"""What may differ between the sentences of one row."""
ACCEPTED = (
    "Texts in any script, with slashes, dots and markup, in `name`, phrases, templates and licences.\n"
    "  None of them becomes a path.",
    "Markup in the profile's name, captions and licences. The report and Dagster show it as text.",
    "A profile with a byte order mark at its start, as some editors write it.",
    "A link in `data/` to an archive elsewhere. The archive is read where it is; link and archive stay.",
    "An image with transparency. It is read without the transparency.",
    "A file `data/phantom_<size>.npz` that was not rendered from the profile's settings. It is replaced.",
)


def titles() -> list[str]:
    """Titles of all cases, in the order of the document."""
    return [case.title for section in SECTIONS for case in section.cases]


def render(expected: dict[str, str]) -> str:
    """The document. Consecutive cases share a row if their sentences differ only in a value."""
    parts = [INTRODUCTION]
    for section in SECTIONS:
        rows = groupby(section.cases, key=lambda case: _without_values(expected.get(case.title, "")))
        table = [_row([case.title for case in cases], expected) for _, cases in rows]
        head = "| Input | Error |\n|---|---|\n"
        parts.append(f"## {section.title}\n\n{section.introduction}\n\n{head}" + "\n".join(table))
    accepted = "\n".join(f"- {text}" for text in ACCEPTED)
    parts.append(f"## Inputs that are accepted\n\n{accepted}\n")
    return "\n\n".join(parts)


def _without_values(sentence: str) -> str:
    for pattern, replacement in VALUES:
        sentence = pattern.sub(replacement, sentence)
    return sentence


def _row(inputs: list[str], expected: dict[str, str]) -> str:
    sentences = {expected.get(title, "") for title in inputs}
    sentence = sentences.pop() if len(sentences) == 1 else _without_values(sentences.pop())
    return f"| {'<br>'.join(inputs)} | `{sentence.replace('|', chr(92) + '|')}` |"


def write_document() -> None:
    """Write docs/errors.md from the sentences of the file."""
    DOCUMENT.write_text(render(load()), encoding="utf-8")
