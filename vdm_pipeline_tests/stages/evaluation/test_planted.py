"""Generators with known faults: the metrics that should detect a fault do."""

import pytest

from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.data.archive import obtain_archive, read_archive
from vdm_pipeline_tests.benchmarks.planted import faults_found, measure
from vdm_pipeline_tests.profiles import shrink

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def detected(tmp_path_factory) -> dict[str, list[str]]:
    """Metrics that distinguish each generator's phantoms from real ones."""
    sizes = {
        "data": {"train": 560, "val": 120, "test": 24},
        "evaluation": {"judge_epochs": 6, "bootstrap": 200},
    }
    profile = shrink(load_profile("demo"), **sizes)
    archive = read_archive(
        obtain_archive(profile.data, tmp_path_factory.mktemp("data"), print),
        profile.data,
        profile.classes.names,
    )
    report = measure(archive, profile, per_class=40, train_per_class=80)
    return {
        name: faults_found(values, report["real images"], profile.checks.max_copied)
        for name, values in report.items()
    }


def test_nothing_distinguishes_real_images_from_real_ones(detected):
    assert detected["real images"] == []
    assert not {"memorisation", "duplicates"} & set(detected["held-out real images"])
    assert not [name for name in detected["held-out real images"] if name.startswith("KID")]


@pytest.mark.parametrize(
    ("images", "metrics"),
    [
        ("training images with noise", {"memorisation"}),
        ("training images, mirrored and brighter", {"memorisation"}),
        ("a tenth of them training images with noise", {"memorisation"}),
        ("one class only", {"label agreement", "KID of normal (labeller)"}),
        (
            "one image repeated",
            {"duplicates", "MS-SSIM", "recall (labeller)", "recall (independent)", "KID (independent)"},
        ),
        ("blurred", {"sharpness", "KID (independent)"}),
        ("inverted", {"KID (labeller)", "KID (independent)"}),
        ("noisy", {"sharpness", "KID (independent)"}),
        ("labels swapped", {"label agreement", "KID of normal (labeller)", "KID of pneumonia (labeller)"}),
    ],
)
def test_metrics_detect_the_fault_they_are_for(detected, images, metrics):
    assert metrics <= set(detected[images])


@pytest.mark.parametrize("images", ["one class only", "blurred", "inverted", "noisy", "labels swapped"])
def test_a_fault_that_copies_nothing_is_not_memorisation(detected, images):
    assert "memorisation" not in detected[images]
