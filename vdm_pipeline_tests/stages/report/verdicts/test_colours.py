"""The sentences that explain the colours of the cards name the cards that have them, and no others."""

import pytest

from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.report.verdicts.colours import explain_colours
from vdm_pipeline.stages.report.verdicts.verdict import Outcome, Verdict

DEMO = load_profile("demo")
CARDS: dict[str, tuple[Outcome, str]] = {
    "sharpness": ("bad", "Red, poor"),
    "diversity": ("mixed", "Yellow, mixed"),
    "Safe to share": ("unclear", "Yellow, not clear"),
}


def card(topic: str, outcome: Outcome) -> Verdict:
    return Verdict(topic, outcome, ("a figure",), "images")


@pytest.mark.parametrize("topic", CARDS)
def test_each_card_that_is_not_green_is_named_beside_its_colour(topic):
    outcome, start = CARDS[topic]
    others = [card("green", "good"), card("unknown", "absent")]
    meaning, expected = explain_colours([card(f"{topic}: some answer", outcome), *others], DEMO)
    assert meaning.startswith(f"{start} ({topic}): ")
    assert expected.startswith("Such cards are expected with this profile: ")


def test_cards_of_one_colour_share_a_sentence():
    first, _ = explain_colours([card("one", "unclear"), card("two", "unclear")], DEMO)
    assert first.startswith("Yellow, not clear (one, two): ")


def test_green_cards_need_no_sentence():
    assert explain_colours([card("one", "good"), card("two", "absent")], DEMO) == []


def test_copies_are_never_called_expected():
    copied = Verdict("Safe to share: no", "bad", ("a figure",), "copies")
    (meaning,) = explain_colours([copied], DEMO)
    assert meaning.startswith("Red, poor (Safe to share): ")


def test_only_the_small_shipped_models_excuse_a_card():
    (meaning,) = explain_colours([card("one", "bad")], load_profile("sd15"))
    assert meaning.startswith("Red, poor (one): ")
