"""Rows of two sets whose class frequencies match."""

import numpy as np
import pytest

from vdm_pipeline.stages.evaluation.class_matching import rows_with_class_shares, rows_with_equal_counts


def test_reference_has_the_class_shares_of_the_images():
    labels, reference = np.array([0] * 10 + [1] * 30), np.array([0] * 50 + [1] * 60)
    rows = rows_with_class_shares(labels, reference, 0)
    assert np.bincount(reference[rows]).tolist() == [20, 60]
    assert len(set(rows.tolist())) == 80
    assert not np.array_equal(rows, rows_with_class_shares(labels, reference, 1))


@pytest.mark.parametrize(
    ("labels", "reference", "counts"),
    [([1], [0, 0, 1, 1], [0, 2]), ([0, 1], [1, 1], [0, 0]), ([], [0, 1], [0, 0])],
)
def test_absent_classes(labels, reference, counts):
    rows = rows_with_class_shares(np.array(labels, int), np.array(reference), 0)
    assert np.bincount(np.array(reference)[rows], minlength=2).tolist() == counts


def test_both_sets_have_the_same_number_of_each_class():
    labels, others = np.repeat([0, 1, 2], [5, 9, 2]), np.repeat([0, 1], [7, 3])
    rows, other_rows = rows_with_equal_counts(labels, others, 0)
    assert np.bincount(labels[rows]).tolist() == np.bincount(others[other_rows]).tolist() == [5, 3]
    assert len(set(rows.tolist())) == len(set(other_rows.tolist())) == 8
