"""The renderer: what a film depends on, and what pneumonia changes in it."""

from dataclasses import fields, replace

import numpy as np
import pytest

from vdm_pipeline.stages.data.phantom import anatomy, film
from vdm_pipeline.stages.data.phantom.film import render, render_in_chunks
from vdm_pipeline.stages.data.phantom.patient import draw_patient, stack

SICK = np.arange(11) % 3 == 1


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    """Eleven films, more than one chunk."""
    return render(5, np.arange(11), SICK, 32)


def attenuation(index: int, pneumonia: bool, rays: int = 64) -> np.ndarray:
    """Line integrals ``[rays, rays]`` of one patient without mottle."""
    patients = stack([draw_patient(5, index, pneumonia)])
    x, row = film._pixel_grid(patients, rays)
    return anatomy.line_integral(patients, x, row, np.zeros((1, rays, rays), np.float32))[0]


def lungs(index: int, rays: int = 64) -> np.ndarray:
    """Depth of lung ``[rays, rays]`` of one patient, cm."""
    patients = stack([draw_patient(5, index, False)])
    x, row = film._pixel_grid(patients, rays)
    return sum(anatomy._lungs(patients, x, row - patients.lean * x))[0]


@pytest.mark.parametrize("order", [[7], [10, 0, 7], list(range(10, -1, -1))])
def test_a_film_does_not_depend_on_its_neighbours(films, order):
    np.testing.assert_array_equal(render(5, np.array(order), SICK[order], 32), films[order])


@pytest.mark.parametrize("threads", [1, 3])
def test_nor_on_threads_or_chunks(films, monkeypatch, threads):
    monkeypatch.setattr("os.cpu_count", lambda: threads)
    np.testing.assert_array_equal(
        np.concatenate(list(render_in_chunks(5, np.arange(11), SICK, 32, chunk=4))), films
    )


def test_films_of_other_patients_and_series_differ(films):
    assert len({image.tobytes() for image in films}) == len(films)
    assert (render(6, np.arange(11), SICK, 32) != films).mean() > 0.5


@pytest.mark.parametrize("size", [16, 28, 50, 128])
def test_any_size_shows_the_same_film(size):
    image = render(5, np.arange(2), np.array([False, True]), size)
    assert image.shape == (2, size, size)
    assert image.dtype == np.uint8
    assert image.std() > 30
    coarse = [_blocks(one, 4) for one in image]
    reference = [_blocks(one, 4) for one in render(5, np.arange(2), np.array([False, True]), 64)]
    for one, other in zip(coarse, reference, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.97


def test_no_films_and_too_small_films():
    assert render(0, np.zeros(0, np.int64), np.zeros(0, bool), 32).shape == (0, 32, 32)
    with pytest.raises(ValueError, match="15 pixels; a phantom needs at least 16"):
        render(0, np.arange(1), np.array([False]), 15)


def test_a_healthy_and_a_sick_film_show_the_same_patient():
    healthy, sick = draw_patient(5, 3, False), draw_patient(5, 3, True)
    for field in fields(healthy):
        if field.name == "blobs":
            assert not healthy.blobs.any() and sick.blobs.any()
        else:
            np.testing.assert_array_equal(getattr(healthy, field.name), getattr(sick, field.name))


def test_every_patient_has_consolidations_of_their_own():
    blobs = {draw_patient(seed, index, True).blobs.tobytes() for seed in (5, 6) for index in range(5)}
    assert len(blobs) == 10


@pytest.mark.parametrize("index", range(6))
def test_pneumonia_adds_attenuation_in_the_lungs_and_nowhere_else(index):
    added, depth = attenuation(index, True) - attenuation(index, False), lungs(index)
    assert added.min() >= -1e-4
    np.testing.assert_allclose(added[depth == 0], 0, atol=1e-4)
    assert added.max() > 0.1
    assert (added <= anatomy.MU_SOFT * depth + 1e-4).all()  # a lung cannot become denser than water


def test_on_the_film_the_consolidation_is_brighter_than_the_lung_around_it():
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


def test_the_heart_stands_on_the_right_of_the_image():
    mirrored = [lungs(index)[34:44] for index in range(6)]
    right, left = (
        np.mean([half.mean() for half in halves])
        for halves in zip(*((m[:, :32], m[:, 32:]) for m in mirrored), strict=True)
    )
    assert left < right  # the left lung, on the image's right, gives way to the heart


def test_noise_falls_with_exposure():
    patients = stack([replace(draw_patient(5, 0, False), exposure=quanta) for quanta in (1e3, 1e7)])
    flat = np.full((2, 64, 64), 3.0, np.float32)
    flat[:, ::8] += 1  # something for the tone curve to stretch
    rngs = [np.random.Generator(np.random.Philox(key=1)) for _ in range(2)]
    few, many = film._expose(patients, flat, rngs).astype(float)
    assert few[4].std() > 4 * many[4].std() + 1


def test_films_are_those_of_this_version_of_the_renderer():
    """Fails when the films change: then raise `series.RENDERER`, so that rendered archives are made anew, and renew the numbers."""
    image = render(0, np.arange(2), np.array([False, True]), 32)
    np.testing.assert_allclose(np.stack([_blocks(one, 4) for one in image]), EXPECTED, atol=2)


def _blocks(image: np.ndarray, side: int) -> np.ndarray:
    """Means over a ``side`` x ``side`` grid of blocks, which need not divide the image."""
    edges = np.linspace(0, len(image), side + 1).astype(int)[:-1]
    counts = np.diff([*edges, len(image)])
    sums = np.add.reduceat(np.add.reduceat(image.astype(float), edges, 0), edges, 1)
    return sums / counts[:, None] / counts[None, :]


EXPECTED = [
    [[36, 107, 117, 41], [76, 121, 129, 78], [78, 121, 147, 84], [121, 197, 201, 129]],
    [[69, 170, 202, 109], [37, 95, 163, 51], [45, 97, 175, 73], [66, 199, 211, 127]],
]
