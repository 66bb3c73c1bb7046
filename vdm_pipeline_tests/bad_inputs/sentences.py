"""The error sentences of the catalogue: ``sentences.json`` maps the title of a case to its sentence.

Every test of the catalogue compares the sentence of its case with that file. After you change a sentence,
rewrite the file and docs/errors.md with one command::

    VDM_UPDATE_SENTENCES=1 python -m pytest vdm_pipeline_tests/bad_inputs
"""

import json
import os
import re
import tempfile
from pathlib import Path

import dagster as dg
from filelock import FileLock

from vdm_pipeline_tests.bad_inputs.case import Case
from vdm_pipeline_tests.paths import ROOT

FILE = Path(__file__).with_name("sentences.json")
UPDATE = "VDM_UPDATE_SENTENCES"
COMMAND = f"{UPDATE}=1 python -m pytest vdm_pipeline_tests/bad_inputs"
REPLACEMENTS = (
    (re.compile(r"\b0{64}\b"), "000…"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<sha256>"),
    (re.compile(r"\(([A-Z]\w*(?:Error|Exception))(?::.*)?\)(?=[;.])"), r"(\1: …)"),
    (re.compile(r"(JSON) \(.*\)(?=;)"), r"\1 (…)"),
    (re.compile(r"at line \d+, column \d+"), "at line …, column …"),
    (re.compile(r"byte \d+ is not UTF-8"), "byte … is not UTF-8"),
    (re.compile(r"\w+_(?:train|val|test)_\d{6}|\bgen_\d{3}\b"), "<image>"),
    (re.compile(r"x{20,}…?"), "xxx…"),
)
"""What differs between machines or versions of a library, or is too long to read."""


def load() -> dict[str, str]:
    """The expected sentence of every case, by its title."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


def is_updating() -> bool:
    """Whether this run of pytest rewrites the sentences."""
    return bool(os.environ.get(UPDATE))


def normalized(sentence: str, *folders: Path) -> str:
    """The sentence without the folders of this machine and without what differs between machines."""
    for folder in sorted([*folders, ROOT], key=lambda path: len(str(path)), reverse=True):
        sentence = sentence.replace(str(folder), "…")
    for pattern, replacement in REPLACEMENTS:
        sentence = pattern.sub(replacement, sentence)
    return sentence


class Sentences:
    """Compares sentences with the file, or collects them to rewrite it."""

    def __init__(self) -> None:
        self.expected = load()
        self.collected: dict[str, str] = {}

    def check(self, case: Case, sentence: str, *folders: Path) -> None:
        """The sentence is one line, names the case's field, and is the expected one."""
        assert case.field in sentence, f"{case.title}: the error does not name {case.field}: {sentence}"
        assert "\n" not in sentence, f"{case.title}: the error has several lines: {sentence}"
        plain = normalized(sentence, *folders)
        if is_updating():
            assert self.collected.setdefault(case.title, plain) == plain, f"{case.title} has two sentences"
        else:
            assert plain == self.expected.get(case.title), f"if you meant to change it, run: {COMMAND}"

    def check_run(self, case: Case, result: dg.ExecuteInProcessResult, *folders: Path) -> None:
        """The run failed with a `dagster.Failure`; its description is the expected sentence."""
        assert not result.success
        step = next(event for event in result.all_events if event.is_step_failure)
        failure = step.step_failure_data.user_failure_data
        assert failure, step.step_failure_data.error
        self.check(case, str(failure.description), *folders)

    def save(self, titles: list[str]) -> None:
        """Write the collected sentences; those of cases that did not run stay."""
        with FileLock(Path(tempfile.gettempdir()) / "vdm_sentences.lock"):
            known = load() | self.collected
            ordered = {title: known[title] for title in titles if title in known}
            FILE.write_text(json.dumps(ordered, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
