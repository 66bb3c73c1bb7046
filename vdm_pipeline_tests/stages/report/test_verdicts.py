"""What is said of the figures: good, bad, not clear and absent, and never more than an interval holds."""

import pytest
from vdm_pipeline.stages.report.verdicts.images import agreement, distance, diversity, paired, sharpness
from vdm_pipeline.stages.report.verdicts.use import copies, safe_to_share, useful

from vdm_pipeline.stages.report.verdicts.glance import verdicts
from vdm_pipeline.stages.report.verdicts.labels import labels_work
from vdm_pipeline.stages.report.verdicts.verdict import gathered, together
from vdm_pipeline_tests.stages.report.example import LABELS, NAMES, filled, metric


def arms(key: str, group: str = "overall", second: bool = True, **values: dict) -> dict:
    """A metric of each arm, the same in both spaces."""
    return {
        arm: {group: {key: value} | ({"independent": {key: value}} if second else {})}
        for arm, value in values.items()
    }


def kid(lora: dict) -> dict:
    return arms("kid", real=metric(0.01, 0.02), baseline=metric(2, 0.2), lora=lora)


def test_all_that_is_measured_has_a_verdict():
    found = verdicts(LABELS, filled(), NAMES, 0.05)
    assert "absent" not in {verdict.outcome for verdict in found}
    assert not any("not measured" in sentence for verdict in found for sentence in verdict.sentences)


@pytest.mark.parametrize(
    "images", [{}, {"lora": {"overall": {}}}, {"memorization": {"arms": {"lora": {}}}}, {"paired": None}]
)
def test_nothing_is_said_of_what_is_not_measured(images):
    found = verdicts({}, images, NAMES, 0.05)
    assert {verdict.outcome for verdict in found} == {"absent"}
    assert all("not measured" in sentence for verdict in found for sentence in verdict.sentences)
    assert found[0].topic == "Safe to share: not measured"


@pytest.mark.parametrize(
    ("lora", "outcome", "says", "floor"),
    [
        (
            metric(0.5),
            "good",
            "closer to real images; the real-against-real floor is 0.01 [-0.01, 0.03]",
            "do not reach",
        ),
        (metric(0.02), "good", "closer to real images", "not told apart"),
        (metric(1.9), "open", "not clearly closer to or farther from real images", "do not reach"),
        (metric(5), "bad", "farther from real images", "do not reach"),
    ],
)
def test_distance_goes_no_further_than_its_intervals(lora, outcome, says, floor):
    verdict = distance(kid(lora))
    assert verdict.outcome == outcome
    assert "the LoRA moved KID from 2 [1.8, 2.2] to" in verdict.sentences[0]
    assert all(says in sentence and floor in sentence for sentence in verdict.sentences)


def test_distance_is_good_only_if_it_is_so_in_both_spaces():
    images = kid(metric(0.5))
    images["lora"]["overall"]["independent"] = {"kid": metric(5)}
    verdict = distance(images)
    assert verdict.outcome == "mixed"
    assert "farther" in verdict.sentences[0] and "closer" in verdict.sentences[1]


@pytest.mark.parametrize(
    ("value", "p", "outcome"),
    [
        (metric(0.5), 0.001, "good"),
        (metric(-0.5), 0.001, "bad"),
        (metric(0.05), 0.4, "open"),
        (metric(0.5), 0.2, "open"),
        (metric(0.05), 0.001, "open"),
    ],
)
def test_paired_difference_needs_interval_and_p(value, p, outcome):
    verdict = paired({"paired": {"label_confidence": {"overall": {"n": 128, "p": p, **value}}}})
    assert verdict.outcome == outcome
    assert f"p = {p:.2g}" in verdict.sentences[0] and "128 pairs" in verdict.sentences[0]


@pytest.mark.parametrize(
    ("lora", "outcome", "says"),
    [
        (metric(0.9, 0.05), "good", "90% [85%, 95%] of the images with the LoRA and 40%"),
        (metric(0.45, 0.1), "open", "not clear"),
        (metric(0.38, 0.05), "bad", "Most do not show"),
        (metric(0.2, 0.05), "bad", "worse than without"),
    ],
)
def test_agreement_by_class(lora, outcome, says):
    verdict = agreement(
        arms("label_agreement", "normal", real=metric(0.95), baseline=metric(0.4), lora=lora), ["normal"]
    )
    assert verdict.outcome == outcome
    assert says in verdict.sentences[0]


@pytest.mark.parametrize(
    ("vendi", "outcome"), [(metric(5), "bad"), (metric(10.05), "good"), (metric(15), "good")]
)
def test_diversity_is_that_of_as_many_real_images(vendi, outcome):
    verdict = diversity(arms("diversity", real=metric(10), lora=vendi))
    assert verdict.outcome == outcome
    assert "10 [9.9, 10.1] of as many real images" in verdict.sentences[0]


def test_images_of_a_class_that_are_more_alike_are_less_diverse():
    assert diversity(arms("ms_ssim", real=metric(0.3), lora=metric(0.8))).outcome == "bad"
    assert diversity(arms("ms_ssim", real=metric(0.3), lora=metric(0.05))).outcome == "good"


def test_a_class_that_is_blurred_is_not_hidden_by_another_that_is_not():
    images = arms("sharpness", "normal", real=metric(60), lora=metric(50))
    sick = arms("sharpness", "sick", real=metric(20), lora=metric(20))
    for arm, groups in sick.items():
        images[arm] |= groups
    verdict = sharpness(images, ["normal", "sick"])
    assert verdict.outcome == "mixed" and "Normal images with the LoRA are blurrier" in verdict.sentences[0]


def test_an_interval_that_is_too_wide_to_tell_is_not_good():
    images = arms("sharpness", "normal", real=metric(10, 3), lora=metric(9, 4))
    assert sharpness(images, ["normal"]).outcome == "open"
    assert diversity(arms("diversity", real=metric(10, 3), lora=metric(9, 4))).outcome == "open"


@pytest.mark.parametrize(
    ("share", "n", "outcome"), [(0.05, 200, "good"), (0.1, 200, "bad"), (0.1, 20, "good")]
)
def test_more_images_alike_than_chance_are_less_diverse(share, n, outcome):
    images = {
        "lora": {"overall": {"n": n}},
        "memorization": {"arms": {"lora": {"duplicates": {"labeller": share}}}},
    }
    verdict = diversity(images)
    assert verdict.outcome == outcome
    assert (
        f"{share:.0%} of the images with the LoRA lie as near to another of them as 5% of real images"
        in verdict.sentences[0]
    )


@pytest.mark.parametrize(
    ("lora", "outcome", "says"),
    [(5, "bad", "blurrier"), (15, "bad", "noisier"), (10, "good", "not told apart")],
)
def test_sharpness_may_err_to_either_side(lora, outcome, says):
    verdict = sharpness(
        arms("sharpness", "normal", real=metric(10), baseline=metric(3), lora=metric(lora)), ["normal"]
    )
    assert verdict.outcome == outcome
    assert says in verdict.sentences[0] and "the baseline has 3 [2.9, 3.1]" in verdict.sentences[0]


def near(copied: dict, p: float) -> dict:
    space = {
        "copied": copied,
        "p": p,
        "p_copied": p,
        "n_held_out": 100,
        "ratio": metric(0.99),
        "share_near_train": metric(0.3),
        "share_near_held_out": metric(0.1),
    }
    arm = {"labeller": space, "independent": space, "duplicates": {"of_training": 0}}
    return {"memorization": {"arms": {"real": arm, "lora": arm}}}


@pytest.mark.parametrize(
    ("copied", "p", "safe", "outcome"),
    [
        (metric(0.2), 0.001, "no", "bad"),
        (metric(0.2), 0.4, "not clear", "open"),
        (metric(0.0), 0.4, "yes", "good"),
        (metric(0.01), 0.001, "yes", "open"),
    ],
)
def test_copies_and_sharing(copied, p, safe, outcome):
    images = near(copied, p)
    assert copies(images, 0.05).outcome == outcome
    assert "30% [20%, 40%] lie near a training image" in copies(images, 0.05).sentences[0]
    verdict = safe_to_share(images, 0.05)
    assert verdict.topic == f"Safe to share: {safe}"
    assert "checks.max_copied is 5%" in verdict.sentences[0] and "no anonymity" in verdict.sentences[1]


def test_sharing_is_not_judged_by_too_few_held_out_images():
    images = near(metric(0.0), 0.4)
    images["memorization"]["arms"]["lora"]["labeller"]["n_held_out"] = 5
    verdict = safe_to_share(images, 0.05)
    assert (verdict.topic, verdict.outcome) == ("Safe to share: not clear", "open")
    assert "cannot be told by 5 held-out images" in verdict.sentences[0]


def test_a_copy_in_one_space_is_a_copy():
    images = near(metric(0), 0.4)
    images["memorization"]["arms"]["lora"]["labeller"] = near(metric(0.5), 0.001)["memorization"]["arms"][
        "lora"
    ]["labeller"]
    assert copies(images, 0.05).outcome == "bad" and safe_to_share(images, 0.05).outcome == "bad"


@pytest.mark.parametrize(
    ("gain", "outcome", "says"),
    [
        (0.2, "good", "LoRA help:"),
        (-0.2, "bad", "LoRA harm:"),
        (0.05, "open", "neither clearly help nor harm"),
    ],
)
def test_utility_is_judged_by_the_repeated_real_images(gain, outcome, says):
    sets = {name: {"balanced_accuracy": metric(value)} for name, value in (("real", 0.8), ("synthetic", 0.7))}
    verdict = useful({"utility": {"sets": sets, "gains": {"real_twice": metric(gain), "real": metric(0.5)}}})
    assert verdict.outcome == outcome
    assert says in verdict.sentences[0]
    assert "against the same real images twice" in verdict.sentences[0]
    assert "has 0.7 [0.6, 0.8]; on as many real ones 0.8 [0.7, 0.9]" in verdict.sentences[1]


def test_labels_that_work_and_a_constant_answer():
    assert labels_work(LABELS, 2).outcome == "good"
    assert (
        "accuracy 0.900 against 0.625, balanced accuracy 0.88 [0.85, 0.91]"
        in labels_work(LABELS, 2).sentences[0]
    )
    constant = LABELS["test"] | {
        "accuracy": 0.625,
        "balanced_accuracy": 0.5,
        "balanced_accuracy_ci95": [0.5, 0.5],
        "roc_auc_ci95": [0.7, 0.8],
    }
    verdict = labels_work({"test": constant}, 2)
    assert verdict.outcome == "bad"
    assert (
        "do not clearly beat" in verdict.sentences[0]
        and "rank images better than chance" in verdict.sentences[0]
    )


def test_labels_below_the_most_frequent_class_do_not_work():
    assert labels_work({"test": LABELS["test"] | {"accuracy": 0.6}}, 2).outcome == "bad"


def test_guessing_among_more_classes_is_right_less_often():
    labels = {"test": LABELS["test"] | {"balanced_accuracy_ci95": [0.4, 0.45]}}
    assert labels_work(labels, 3).outcome == "good"
    assert labels_work(labels, 2).outcome == "bad"


def test_worst_news_come_first():
    assert together(["good", "absent"]) == "good"
    assert together(["good", "open"]) == "open"
    assert together(["bad", "open"]) == "bad"
    assert together(["good", "bad"]) == together(["mixed", "good"]) == "mixed"
    verdict = gathered("", "", [("absent", "a"), ("good", "b"), ("bad", "c"), ("open", "d")])
    assert verdict.outcome == "mixed" and verdict.sentences == ("c", "d", "b", "a")


def test_what_beats_the_repeated_images_alone_is_no_clear_help():
    gains = {"real_twice": metric(0.5), "real": metric(0.0)}
    assert useful({"utility": {"sets": {}, "gains": gains}}).outcome == "open"
    assert useful({"utility": {"sets": {}, "gains": gains | {"real": metric(0.5)}}}).outcome == "good"
