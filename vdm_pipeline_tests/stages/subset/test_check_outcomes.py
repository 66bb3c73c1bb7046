"""Subset checks on subsets that must pass, and on ones that must fail."""

import pytest

from vdm_pipeline.stages.subset.check_outcomes import balanced, disjoint, pure

NAMES = ("normal", "pneumonia")


def test_leaked_and_repeated_images_fail():
    assert disjoint([b"1", b"2"], [b"3"]).passed
    assert disjoint([b"1", b"2"], [b"2"]).figures == {"leaked": 1, "repeated": 0}
    assert disjoint([b"1", b"1"], [b"2"]).figures == {"leaked": 0, "repeated": 1}
    assert not disjoint([b"1", b"2"], [b"2"]).passed
    assert not disjoint([b"1", b"1"], [b"2"]).passed


def test_purity_has_a_minimum():
    assert pure(["a", "a", "b", "b"], ["a", "a", "b", "a"], 0.75).passed
    assert not pure(["a", "a", "b", "b"], ["a", "a", "b", "a"], 0.76).passed
    assert not pure([], [], 0.5).passed


@pytest.mark.parametrize(
    ("labels", "passed"),
    [
        (["normal", "pneumonia"] * 3, True),
        (["normal"] * 3 + ["pneumonia"] * 2, False),
        (["normal"] * 3, False),
        ([], False),
    ],
)
def test_all_classes_need_the_same_number_of_images(labels, passed):
    assert balanced(labels, NAMES).passed is passed
