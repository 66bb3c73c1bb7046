"""docs/bad_inputs.md and the tables of cases are one list."""

import re

from vdm_pipeline_tests.bad_inputs import (
    test_archives,
    test_between_stages,
    test_commands,
    test_folders,
    test_models,
    test_profile_files,
    test_profiles,
    test_root,
)
from vdm_pipeline_tests.bad_inputs.case import Case
from vdm_pipeline_tests.paths import ROOT

DOCUMENT = ROOT / "docs/bad_inputs.md"
DOORS: dict[str, list[Case]] = {
    "A value of the profile": test_profiles.CASES,
    "The profile's file, and `VDM_PROFILE`": test_profile_files.CASES,
    "The project folder, and `VDM_ROOT`": test_root.ALL,
    "The archive in `data/`": test_archives.ALL,
    "What stands between the stages": test_between_stages.CASES,
    "Folders and tables, read by a stage without the graph": test_folders.CASES,
    "Models, adapters and the device": test_models.CASES,
    "The commands": test_commands.CASES,
}
TAKEN = {
    test_profiles.test_any_script_and_markup_are_welcome_in_texts: "Texts of any script, with slashes, dots and markup",
    test_between_stages.test_markup_stays_text_wherever_it_is_shown: "Markup in the profile's name, captions and licences",
    test_profile_files.test_a_byte_order_mark_is_passed_over: "A profile that begins with a byte order mark",
    test_archives.test_a_link_to_an_archive_elsewhere_is_read_and_stays: "A link in `data/` to an archive elsewhere",
    test_folders.test_an_image_with_transparency_is_read_grey: "An image with transparency",
}


def listed() -> dict[str, list[tuple[str, str]]]:
    """Rows of the document, by the heading above them."""
    found: dict[str, list[tuple[str, str]]] = {}
    heading = ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        heading = line.removeprefix("## ") if line.startswith("## ") else heading
        row = re.fullmatch(r"\| (.+) \| `(.+)` \|", line)
        if row:
            found.setdefault(heading, []).append((row[1], row[2]))
    return found


def test_every_case_stands_in_the_document_with_its_sentence_and_nothing_else_does():
    assert listed() == {door: [(case.title, case.said) for case in cases] for door, cases in DOORS.items()}


def test_titles_differ():
    titles = [case.title for cases in DOORS.values() for case in cases]
    assert len(set(titles)) == len(titles) >= 60


def test_what_is_taken_as_it_is_stands_in_the_document():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert all(f"- {said}" in text for said in TAKEN.values())
