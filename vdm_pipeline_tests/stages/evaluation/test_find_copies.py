"""The rule on copies of training images: in any arm and space, and single copies."""

import pytest

from vdm_pipeline.stages.evaluation.check_outcomes import find_copies


def memorization_of(
    labeller: tuple, independent: tuple = (0.0, 1.0), *, exact: int = 0, n_held_out: int = 100
) -> dict:
    """Memorization of one arm: the share of copies and its p-value in each space."""
    report: dict = {"duplicates": {"of_training": exact}}
    for space, (share, p) in {"labeller": labeller, "independent": independent}.items():
        copied = {"value": share, "ci95": [share, share]}
        report[space] = {"copied": copied, "p_copied": p, "n_held_out": n_held_out}
    return report


NO_COPIES = (0.0, 0.5)
SINGLE_COPY = {
    "arm": "dpm25",
    "file_name": "gen_007.png",
    "train_image": "phantom_train_000123",
    "held_out_image": "phantom_val_000001",
    "orientation": "mirrored, inverted",
    "ratio": 0.0412,
}


def memorization_with(arms: dict, *found: dict, sensitivity: float | None = 1.0) -> dict:
    """Memorization of these arms with the single copies ``found``."""
    single = {
        "false_alarm_rate": 0.001,
        "n": 640,
        "n_held_out": 60,
        "limit": None if sensitivity is None else 0.25,
        "sensitivity": sensitivity,
        "found": list(found),
    }
    return {"arms": arms, "single_copies": single}


@pytest.mark.parametrize(
    ("labeller", "independent", "state"),
    [
        (NO_COPIES, (0.02, 0.001), "none"),
        ((0.03, 0.009), NO_COPIES, "some"),
        (NO_COPIES, (0.03, 0.009), "some"),
        ((0.03, 0.01), NO_COPIES, "unclear"),
        ((1.0, 0.0), (1.0, 0.0), "some"),
    ],
)
@pytest.mark.parametrize("name", ["lora", "baseline", "weight_150"])
def test_copies_beyond_limit_and_chance_are_found_in_any_space_of_any_arm(name, labeller, independent, state):
    arms = {
        "real": memorization_of((1, 0), (1, 0), exact=9, n_held_out=1),
        "lora": memorization_of(NO_COPIES),
        name: memorization_of(labeller, independent),
    }
    result = find_copies(memorization_with(arms), 0.02)
    assert result.state == state and result.outcome.passed is (state == "none")
    assert ("beyond what chance explains" in result.sentence) is (state == "some")
    assert state == "none" or name in result.sentence


def test_space_with_significant_copies_is_named_before_one_with_more_copies():
    arms = {"lora": memorization_of((0.05, 0.5), (0.03, 0.001))}
    sentence = find_copies(memorization_with(arms), 0.02).sentence
    assert "(lora, independent" in sentence
    assert "p = 0.001" in sentence and "checks.max_copied is 2%" in sentence


@pytest.mark.parametrize(("n_held_out", "state"), [(0, "unclear"), (99, "unclear"), (100, "none")])
def test_too_few_held_out_images_are_unclear(n_held_out, state):
    arms = {"lora": memorization_of(NO_COPIES), "dpm25": memorization_of(NO_COPIES)}
    memorization = memorization_with(arms)
    independent = memorization["arms"]["dpm25"]["independent"]
    independent["n_held_out"] = n_held_out
    if not n_held_out:
        independent |= {"copied": None, "p_copied": None}
    result = find_copies(memorization, 0.02)
    assert result.state == state
    assert state == "none" or f"{n_held_out} held-out images" in result.sentence


def test_one_image_with_the_pixels_of_a_training_image_is_a_copy():
    arms = {"lora": memorization_of(NO_COPIES), "dpm25": memorization_of(NO_COPIES, exact=1)}
    result = find_copies(memorization_with(arms), 0.02)
    assert result.state == "some" and "1 of the images (dpm25)" in result.sentence
    assert (result.figures["exact_dpm25"], result.figures["exact_lora"]) == (1, 0)


@pytest.mark.parametrize(
    "missing", [("lora",), ("lora", "independent"), ("dpm25", "labeller"), ("lora", "duplicates")]
)
def test_missing_measurements_raise(missing):
    arms = {"lora": memorization_of(NO_COPIES), "dpm25": memorization_of(NO_COPIES)}
    (arms if len(missing) == 1 else arms[missing[0]]).pop(missing[-1])
    with pytest.raises(KeyError):
        find_copies(memorization_with(arms), 0.02)


def test_a_single_copy_is_named_with_its_training_image():
    arms = {"lora": memorization_of(NO_COPIES)}
    result = find_copies(memorization_with(arms, SINGLE_COPY), 0.02)
    assert (result.state, result.outcome.passed, result.figures["single_copies"]) == ("some", False, 1)
    assert result.sentence == (
        "gen_007.png (dpm25) is a copy of training image phantom_train_000123, mirrored, inverted "
        "(distance ratio 0.041); without copies, there is a ratio below 0.25 among the 640 images of all "
        "arms by design with probability 0.1%, in our trials in up to 0.5% of the runs"
    )


def test_many_single_copies_are_counted():
    arms = {"lora": memorization_of((1.0, 0.0))}
    copies = [SINGLE_COPY | {"file_name": f"gen_{i:03d}.png"} for i in range(5)]
    sentence = find_copies(memorization_with(arms, *copies), 0.02).sentence
    assert "gen_002.png" in sentence and "gen_003.png" not in sentence and "; 2 more copies;" in sentence


@pytest.mark.parametrize(
    ("sensitivity", "state"), [(None, "unclear"), (0.0, "unclear"), (0.94, "unclear"), (0.95, "none")]
)
def test_without_enough_images_for_the_test_of_single_copies_the_answer_is_unclear(sensitivity, state):
    arms = {"lora": memorization_of(NO_COPIES)}
    result = find_copies(memorization_with(arms, sensitivity=sensitivity), 0.02)
    assert (result.state, result.outcome.passed) == (state, state == "none")
    assert result.sentence.startswith("not enough images to test for single copies: with 60") is (
        state == "unclear"
    )


def test_copies_are_reported_even_if_the_test_of_single_copies_is_insensitive():
    arms = {"lora": memorization_of((1.0, 0.0))}
    assert find_copies(memorization_with(arms, sensitivity=0.1), 0.02).state == "some"


def test_missing_single_copies_raise():
    with pytest.raises(KeyError):
        find_copies({"arms": {"lora": memorization_of(NO_COPIES)}}, 0.02)
