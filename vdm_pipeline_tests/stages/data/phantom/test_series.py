"""Rendered archives: format, patients, and recognition of the settings."""

import numpy as np
import pytest

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.io.hashing import digest
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.data.phantom import series
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.data.phantom.series import is_rendered_from, render_archive
from vdm_pipeline_tests.stages.data.archives import ignore_log

DATA = Data(
    dataset="phantom", size=28, source="phantom", train=12, val=5, test=7, pneumonia_share=0.25, seed=3
)


def rendered(path, **changes) -> dict[str, np.ndarray]:
    """Render with some settings changed, and load with NumPy."""
    render_archive(DATA.model_copy(update=changes), path, ignore_log)
    return dict(np.load(path, allow_pickle=False))


def test_format_counts_and_shares(tmp_path):
    arrays = rendered(tmp_path / "p.npz")
    assert list(arrays) == [
        f"{split}_{part}" for split in ("train", "val", "test") for part in ("images", "labels")
    ]
    for split, count, sick in (("train", 12, 3), ("val", 5, 1), ("test", 7, 2)):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        assert (images.shape, images.dtype) == ((count, 28, 28), np.uint8)
        assert (labels.shape, labels.dtype) == ((count, 1), np.uint8)
        assert labels.sum() == sick
    images = np.concatenate([arrays[f"{split}_images"] for split in ("train", "val", "test")])
    assert len({image.tobytes() for image in images}) == 24


def test_labels_belong_to_their_films(tmp_path):
    arrays = rendered(tmp_path / "p.npz")
    expected = render(3, np.arange(12), arrays["train_labels"][:, 0] == 1, 28)
    np.testing.assert_array_equal(arrays["train_images"], expected)


def test_order_of_classes_depends_on_seed_and_split():
    data = DATA.model_copy(update={"pneumonia_share": 0.5})
    orders = {
        series.split_labels(data.model_copy(update={"seed": seed}), split, 40).tobytes()
        for seed in (0, 1)
        for split in (0, 1)
    }
    assert len(orders) == 4
    first = series.split_labels(data, 0, 40)
    np.testing.assert_array_equal(first, series.split_labels(data, 0, 40))
    assert 0 < first[:20].sum() < 20


def test_splits_share_no_patient_and_do_not_depend_on_each_other(tmp_path, monkeypatch):
    patients = []

    def record(seed, indices, pneumonia, size, chunk_size):
        patients.append(set(indices.tolist()))
        yield np.zeros((len(indices), size, size), np.uint8)

    few = rendered(tmp_path / "a.npz")
    more = rendered(tmp_path / "b.npz", train=15)
    np.testing.assert_array_equal(few["test_images"], more["test_images"])
    monkeypatch.setattr(series, "render_in_chunks", record)
    rendered(tmp_path / "c.npz")
    assert [len(indices) for indices in patients] == [12, 5, 7]
    assert len(set.union(*patients)) == 24


def test_file_depends_only_on_the_settings(tmp_path):
    for name, changes in (("a", {}), ("b", {}), ("c", {"seed": 4})):
        rendered(tmp_path / name, **changes)
    first, same, other = (digest(tmp_path / name, "sha256") for name in "abc")
    assert first == same != other


def test_file_is_recognized_by_its_settings(tmp_path, monkeypatch):
    path = tmp_path / "p.npz"
    assert not is_rendered_from(DATA, path)
    rendered(path)
    assert is_rendered_from(DATA, path)
    for changes in ({"seed": 4}, {"test": 8}, {"pneumonia_share": 0.3}, {"size": 32}):
        assert not is_rendered_from(DATA.model_copy(update=changes), path)
    monkeypatch.setattr(series, "RENDERER", series.RENDERER + 1)
    assert not is_rendered_from(DATA, path)


def test_progress_is_logged(tmp_path):
    lines: list[str] = []
    render_archive(DATA, tmp_path / "p.npz", lines.append)
    assert lines[-1] == "p.npz: rendered 24/24 phantoms"


@pytest.mark.parametrize("share", [0.0, 1.0, 0.01])
def test_train_split_of_one_class_is_an_error_before_rendering(tmp_path, share):
    with pytest.raises(ArchiveError, match=r"data\.pneumonia_share = .* train has only one class"):
        rendered(tmp_path / "p.npz", pneumonia_share=share)
    assert not any(tmp_path.iterdir())
