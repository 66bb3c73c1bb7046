"""Generators whose faults are known, each told from real images by the metric that should."""

import pytest

from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.data.archive import obtain_archive, read_archive
from vdm_pipeline_tests.benchmarks.planted import faults_found, measure
from vdm_pipeline_tests.conftest import shrink

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, list[str]]:
    """What tells each generator's phantoms from real ones."""
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


def test_real_images_are_told_from_real_ones_by_nothing(found):
    assert found["real images"] == []
    assert not {"memorisation", "duplicates"} & set(found["held-out real images"])
    assert not [name for name in found["held-out real images"] if name.startswith("KID")]


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
def test_fault_is_seen_by_what_should_see_it(found, images, metrics):
    assert metrics <= set(found[images])


@pytest.mark.parametrize(
    "images", ["one class only", "blurred", "inverted", "noisy", "labels swapped"]
)  # one image may be near by chance
def test_what_copies_nothing_is_not_called_a_copy(found, images):
    assert "memorisation" not in found[images]
