"""Rendered films: what they depend on, and what pneumonia changes."""

from dataclasses import fields, replace

import numpy as np
import pytest

from vdm_pipeline.stages.data.phantom import anatomy, film
from vdm_pipeline.stages.data.phantom.film import render, render_in_chunks
from vdm_pipeline.stages.data.phantom.patient import draw_patient, stack

SICK = np.arange(11) % 3 == 1


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    """Eleven films, which are more than one chunk."""
    return render(5, np.arange(11), SICK, 32)


def attenuation(index: int, pneumonia: bool, rays: int = 64) -> np.ndarray:
    """Line integrals ``[rays, rays]`` of one patient with a lung of uniform density."""
    patients = stack([draw_patient(5, index, pneumonia)])
    x, row = film._pixel_grid(patients, rays)
    return anatomy.line_integral(patients, x, row, np.zeros((1, rays, rays), np.float32))[0]


def lungs(index: int, rays: int = 64) -> np.ndarray:
    """Depth of lung ``[rays, rays]`` of one patient, cm."""
    patients = stack([draw_patient(5, index, False)])
    x, row = film._pixel_grid(patients, rays)
    return sum(anatomy._lungs(patients, x, row - patients.lean * x))[0]


@pytest.mark.parametrize("order", [[7], [10, 0, 7], list(range(10, -1, -1))])
def test_film_does_not_depend_on_other_films(films, order):
    np.testing.assert_array_equal(render(5, np.array(order), SICK[order], 32), films[order])


@pytest.mark.parametrize("threads", [1, 3])
def test_film_does_not_depend_on_threads_or_chunks(films, monkeypatch, threads):
    monkeypatch.setattr("os.cpu_count", lambda: threads)
    np.testing.assert_array_equal(
        np.concatenate(list(render_in_chunks(5, np.arange(11), SICK, 32, chunk_size=4))), films
    )


def test_films_of_other_patients_and_series_differ(films):
    assert len({image.tobytes() for image in films}) == len(films)
    assert (render(6, np.arange(11), SICK, 32) != films).mean() > 0.5


@pytest.mark.parametrize("size", [16, 28, 50, 128])
def test_film_looks_the_same_at_any_size(size):
    sized_films = render(5, np.arange(2), np.array([False, True]), size)
    assert sized_films.shape == (2, size, size)
    assert sized_films.dtype == np.uint8
    assert sized_films.std() > 30
    reference = render(5, np.arange(2), np.array([False, True]), 64)
    for actual, expected in zip(sized_films, reference, strict=True):
        means = [block_means(image, 4).ravel() for image in (actual, expected)]
        assert np.corrcoef(*means)[0, 1] > 0.97


def test_no_films_and_too_small_films():
    assert render(0, np.zeros(0, np.int64), np.zeros(0, bool), 32).shape == (0, 32, 32)
    with pytest.raises(ValueError, match="size is 15"):
        render(0, np.arange(1), np.array([False]), 15)


def test_healthy_and_sick_films_show_the_same_patient():
    healthy, sick = draw_patient(5, 3, False), draw_patient(5, 3, True)
    for field in fields(healthy):
        if field.name == "blobs":
            assert not healthy.blobs.any() and sick.blobs.any()
        else:
            np.testing.assert_array_equal(getattr(healthy, field.name), getattr(sick, field.name))


def test_consolidations_differ_between_patients():
    blobs = {draw_patient(seed, index, True).blobs.tobytes() for seed in (5, 6) for index in range(5)}
    assert len(blobs) == 10


@pytest.mark.parametrize("index", range(6))
def test_pneumonia_adds_attenuation_only_in_the_lungs(index):
    added, depth = attenuation(index, True) - attenuation(index, False), lungs(index)
    assert added.min() >= -1e-4
    np.testing.assert_allclose(added[depth == 0], 0, atol=1e-4)
    assert added.max() > 0.1
    assert (added <= anatomy.MU_SOFT * depth + 1e-4).all()  # a lung cannot become denser than water


def test_consolidation_is_brighter_than_the_lung_around_it():
    gains = []
    for index in range(8):
        healthy, sick = (
            render(5, np.array([index]), np.array([ill]), 64)[0].astype(float) for ill in (False, True)
        )
        added = attenuation(index, True) - attenuation(index, False)
        core, rest = added > added.max() / 2, (lungs(index) > 3) & (added < 0.01)
        gains.append((sick - healthy)[core].mean() - (sick - healthy)[rest].mean())
    assert min(gains) > 5
    assert np.mean(gains) > 20


def test_lungs_are_dark_and_the_mediastinum_is_bright():
    for index in range(6):
        image, depth = render(5, np.array([index]), np.array([False]), 64)[0].astype(float), lungs(index)
        assert image[24:44, 30:34].mean() > image[depth > 8].mean() + 60


def test_the_heart_is_on_the_right_of_the_image():
    depth = np.array([lungs(index)[34:44] for index in range(6)])
    assert depth[:, :, 32:].mean() < depth[:, :, :32].mean()  # the heart displaces the left lung


def test_noise_falls_with_exposure():
    patients = stack([replace(draw_patient(5, 0, False), exposure=quanta) for quanta in (1e3, 1e7)])
    flat = np.full((2, 64, 64), 3.0, np.float32)
    flat[:, ::8] += 1  # contrast for the tone curve
    rngs = [np.random.Generator(np.random.Philox(key=1)) for _ in range(2)]
    few, many = film._expose(patients, flat, rngs).astype(float)
    assert few[4].std() > 4 * many[4].std() + 1


def test_films_of_this_version_of_the_renderer():
    """If films change, increase `series.RENDERER`, so that archives are rendered again."""
    healthy, sick = render(0, np.arange(2), np.array([False, True]), 32)
    np.testing.assert_allclose([block_means(healthy, 4), block_means(sick, 4)], EXPECTED, atol=2)


def block_means(image: np.ndarray, side: int) -> np.ndarray:
    """Means over a ``side`` x ``side`` grid of blocks, which may differ in size by a pixel."""
    edges = np.linspace(0, len(image), side + 1).astype(int)[:-1]
    counts = np.diff([*edges, len(image)])
    sums = np.add.reduceat(np.add.reduceat(image.astype(float), edges, 0), edges, 1)
    return sums / counts[:, None] / counts[None, :]


EXPECTED = [
    [[36, 107, 117, 41], [76, 121, 129, 78], [78, 121, 147, 84], [121, 197, 201, 129]],
    [[69, 170, 202, 109], [37, 95, 163, 51], [45, 97, 175, 73], [66, 199, 211, 127]],
]
