"""Whitened embeddings, and close pairs of vectors."""

import numpy as np

from vdm_pipeline.stages.data import near_duplicates
from vdm_pipeline.stages.data.near_duplicates import Whitening, close_pairs


def test_close_pairs_equal_brute_force(monkeypatch):
    monkeypatch.setattr(near_duplicates, "BLOCK", 7)
    vectors = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = {(i, j) for i in range(40) for j in range(i) if float(vectors[i] @ vectors[j]) >= 0.9}
    pairs = list(close_pairs(vectors, 0.9))
    assert {(later, earlier) for later, earlier, _ in pairs} == expected
    assert len(pairs) == len(expected) > 5
    for later, earlier, cosine in pairs:
        np.testing.assert_allclose(cosine, vectors[later] @ vectors[earlier], rtol=1e-6)


def test_whitened_vectors_are_uncorrelated_and_without_the_common_direction():
    rng = np.random.default_rng(1)
    embeddings = (rng.standard_normal((500, 6)) * [5, 1, 0.1, 0.1, 0.1, 0] + 40).astype(np.float32)
    whiten = Whitening.fit(embeddings)
    assert whiten.projection.shape == (6, 5)
    projected = (embeddings - whiten.mean) @ whiten.projection
    np.testing.assert_allclose(projected.T @ projected, np.eye(5), atol=1e-2)
    np.testing.assert_allclose(np.linalg.norm(whiten(embeddings), axis=1), 1, atol=1e-5)


def test_whitening_keeps_the_directions_of_largest_variance():
    rng = np.random.default_rng(1)
    embeddings = (rng.standard_normal((500, 4)) * [1, 5, 3, 0.5]).astype(np.float32)
    projection = Whitening.fit(embeddings, max_directions=2).projection
    assert projection.shape == (4, 2)
    assert np.abs(projection).argmax(axis=0).tolist() == [1, 2]
