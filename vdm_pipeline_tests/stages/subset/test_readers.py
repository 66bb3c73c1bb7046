"""Our image folders in other programs: Hugging Face datasets, diffusers' script and kohya's trainer."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from datasets.utils import disable_progress_bars

from vdm_pipeline.io.images import read_png
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.settings import Classes, Subset
from vdm_pipeline.stages.data.archive import Archive, Split
from vdm_pipeline.stages.labelling.calibration import Calibration
from vdm_pipeline.stages.labelling.labels import label_table
from vdm_pipeline.stages.subset.select import write_subset

disable_progress_bars()
SPLIT_WORDS = ("train", "test_strip", "val", "dev", "eval-set", "validation", "testing_1", "holdout", "mnist")
"""Words from which `datasets` infers splits, and one other, as names of a data set, a class and a folder."""
WAYS = ("data_dir", "data_files", "path")
Load = Callable[[Path], Dataset]


@pytest.fixture
def load(tmp_path, monkeypatch) -> dict[str, Load]:
    """Ways to load an image folder: with `datasets`, and as diffusers' train_text_to_image_lora.py does."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    cache = str(tmp_path / "cache")

    def by_data_dir(folder: Path) -> Dataset:
        return only_split(load_dataset("imagefolder", data_dir=str(folder), cache_dir=cache))

    def by_data_files(folder: Path) -> Dataset:
        files = {"train": os.path.join(folder, "**")}
        return only_split(load_dataset("imagefolder", data_files=files, cache_dir=cache))

    def by_path(folder: Path) -> Dataset:
        return only_split(load_dataset(str(folder), None, data_dir=None, cache_dir=cache))

    return {"data_dir": by_data_dir, "data_files": by_data_files, "path": by_path}


def only_split(splits: dict[str, Dataset]) -> Dataset:
    assert list(splits) == ["train"]
    return splits["train"]


def check_complete(folder: Path, dataset: Dataset) -> None:
    """Every row has its image and all of its values."""
    expected = {
        read_png(folder, row["file_name"]).tobytes(): row for row in read_rows(folder / "metadata.jsonl")
    }
    assert len(dataset) == len(expected)
    for row in dataset:
        written = expected[np.asarray(row.pop("image")).tobytes()]
        assert row == {key: value for key, value in written.items() if key != "file_name"}


def subset_of(word: str, channels: int, folder: Path, subset: Subset) -> Path:
    """A subset of a data set called ``word``, with a class of that name, under a folder of that name."""
    rng = np.random.default_rng(0)
    shape = (6, 8, 8) if channels == 1 else (6, 8, 8, 3)
    images = rng.integers(256, size=shape, dtype=np.uint8)
    split = Split.from_arrays(images, np.arange(6) % 2)
    archive = Archive(word, 8, {"train": split}, folder, "", "", "unverified")
    classes = Classes(names=(word, "other"), phrases=(f"a {word}", "no other"), template="{phrase}, film")
    calibration = Calibration("none", "argmax", 1.0, (0.0, 0.0), (0.5, 0.5))
    table = label_table(archive, {"train": np.eye(2)[np.arange(6) % 2]}, calibration, classes.names)
    table = table.assign(label=table["auto_label"], label_index=np.arange(6) % 2)
    write_subset(folder / word / "data/subset", table, archive, "train", subset, classes)
    return folder / word / "data/subset"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("word", SPLIT_WORDS)
def test_datasets_reads_every_caption_whatever_the_names(load, tmp_path, tiny, word, way):
    folder = subset_of(word, 3 if way == "data_files" else 1, tmp_path, tiny.subset)
    dataset = load[way](folder)
    check_complete(folder, dataset)
    assert dataset.column_names[:2] == ["image", "text"]  # the columns that diffusers' script takes


@pytest.mark.parametrize("way", WAYS)
def test_a_relative_folder_is_read_too(load, tmp_path, monkeypatch, tiny, way):
    monkeypatch.chdir(subset_of("train", 1, tmp_path, tiny.subset).parents[1])
    check_complete(Path("data/subset"), load[way](Path("data/subset")))


@pytest.mark.parametrize("captions_from", ["auto_label", "ground_truth"])
def test_the_card_says_what_the_images_are(tmp_path, tiny, captions_from):
    subset = tiny.subset.model_copy(update={"captions_from": captions_from})
    card = (subset_of("lungs", 1, tmp_path, subset) / "README.md").read_text(encoding="utf-8")
    assert "6 images of the train split of the archive lungs" in card
    assert "- `lungs`: 3 images, “a lungs, film”\n- `other`: 3 images, “no other, film”" in card
    meaning = {"auto_label": "the automatic label", "ground_truth": "the dataset's label"}[captions_from]
    assert f"`label`,\nthe class: {meaning}" in card


def kohya_captions(folder: Path) -> dict[Path, str]:
    """Image paths and captions as sd-scripts reads them with ``caption_extension = ".txt"``.

    `train_util.py`: the images directly in ``image_dir``; the caption is the first line of the file with the
    same stem, or of the one whose stem lacks the last four parts between underscores.
    """
    captions = {}
    for path in folder.glob("*.png"):
        stem = str(path.with_suffix(""))
        parts = stem.split("_")
        for candidate in (stem, "_".join(parts[:-4]) if len(parts) >= 5 else stem):
            if Path(f"{candidate}.txt").is_file():
                captions[path] = Path(f"{candidate}.txt").read_text(encoding="utf-8").splitlines()[0].strip()
                break
    return captions


@pytest.mark.parametrize("word", ["train", "a_b_c_d_e_f"])
def test_kohya_reads_every_caption(tmp_path, tiny, word):
    folder = subset_of(word, 1, tmp_path, tiny.subset)
    rows = read_rows(folder / "metadata.jsonl")
    assert kohya_captions(folder / "images") == {folder / row["file_name"]: row["text"] for row in rows}


@pytest.mark.parametrize(
    ("folder", "caption"),
    [
        ("data/subset", "text"),
        ("data/subset_held_out", "text"),
        ("results/generated_images", "prompt"),
        ("results/generated_images_no_fine_tuning", "prompt"),
        ("results/generated_images_extra/dpm2", "prompt"),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_every_folder_of_a_finished_project_is_read(load, finished_once, folder, caption, way):
    path = finished_once[1] / "project" / folder
    dataset = load[way](path)
    check_complete(path, dataset)
    assert all(dataset[caption])
