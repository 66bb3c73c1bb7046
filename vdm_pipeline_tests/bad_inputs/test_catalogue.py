"""The catalogue is complete, and docs/errors.md is the one that is generated from it."""

import pytest

from vdm_pipeline_tests.bad_inputs import catalogue
from vdm_pipeline_tests.bad_inputs.sentences import COMMAND, is_updating, load

pytestmark = pytest.mark.skipif(is_updating(), reason="the files are rewritten at the end of this run")


def test_every_case_has_a_sentence_and_every_sentence_a_case():
    assert sorted(load()) == sorted(catalogue.titles())


def test_titles_are_unique():
    titles = catalogue.titles()
    assert len(set(titles)) == len(titles) >= 60


def test_the_document_is_up_to_date():
    assert catalogue.DOCUMENT.read_text(encoding="utf-8") == catalogue.render(load()), f"run: {COMMAND}"
