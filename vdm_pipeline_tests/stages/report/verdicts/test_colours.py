"""The sentences that explain the colours of the cards name the cards that have them, and no others."""

import pytest

from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.report.verdicts.colours import explain_colours
from vdm_pipeline.stages.report.verdicts.verdict import Outcome, Topic, Verdict

DEMO = load_profile("demo")
CARDS: dict[str, tuple[Outcome, str]] = {
    "sharpness": ("bad", "Red"),
    "diversity": ("mixed", "Yellow, mixed"),
    "diversity and novelty": ("unclear", "Yellow, unclear"),
}


def card(title: str, outcome: Outcome, section: str = "images") -> Verdict:
    return Verdict(Topic(title, section, "more images", "more training"), outcome, ("a figure",))


@pytest.mark.parametrize("title", CARDS)
def test_each_card_that_is_not_green_is_named_beside_its_colour(title):
    outcome, start = CARDS[title]
    others = [card("green", "good"), card("unknown", "absent")]
    meaning, expected = explain_colours([card(title, outcome), *others], DEMO)
    assert meaning.startswith(f"{start} ({title}): ")
    assert expected.startswith("Such cards are expected with this profile: ")


def test_cards_of_one_colour_share_a_sentence():
    first, _ = explain_colours([card("one", "unclear"), card("two", "unclear")], DEMO)
    assert first.startswith("Yellow, unclear (one, two): ")


def test_green_cards_need_no_sentence():
    assert explain_colours([card("one", "good"), card("two", "absent")], DEMO) == []


def test_copies_are_never_called_expected():
    (meaning,) = explain_colours([card("copied", "bad", "copies")], DEMO)
    assert meaning.startswith("Red (copied): ")


def test_only_the_small_shipped_models_excuse_a_card():
    (meaning,) = explain_colours([card("one", "bad")], load_profile("sd15"))
    assert meaning.startswith("Red (one): ")
