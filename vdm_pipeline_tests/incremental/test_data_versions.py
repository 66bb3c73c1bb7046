"""Data versions cover what a part selects, and nothing else."""

import dataclasses

import pytest

from vdm_pipeline.graph import STAGES, Part
from vdm_pipeline.incremental.data_versions import data_versions
from vdm_pipeline.incremental.store import Store

OUTPUTS = {"folder": "data/subset", "other": "data/subset_held_out"}
PARTS = {
    "pictures": Part("folder", ("*.png",), fields={"rows.jsonl": ("text",)}),
    "whole": Part("other", ("*",)),
    "rest": Part("folder", without={"rows.jsonl": ("text", "score")}),
}
ROWS = '{{"text": "{text}", "label": "{label}", "score": {score}}}\n'
IMAGE_ROW = '{"file_name": "images/a.png", "text": "t", "image_id": "a", "label": "l", "ground_truth": "l"}\n'


@pytest.fixture
def versions(tmp_path, monkeypatch):
    """Writes the files of an asset, and returns the data versions of its parts."""
    monkeypatch.setitem(STAGES, "lora_subset", dataclasses.replace(STAGES["lora_subset"], parts=PARTS))
    store = Store(tmp_path.resolve())

    def write(png: str = "p", held_out: str = "h", **row: str) -> dict[str, str]:
        files = {
            "subset/images/a.png": png,
            "subset/rows.jsonl": ROWS.format(**{"text": "t", "label": "l", "score": "1"} | row),
            "subset_held_out/rows.jsonl": held_out,
        }
        for name, content in files.items():
            (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / name).write_text(content)
        return data_versions(store, "lora_subset", OUTPUTS, store.hashes(OUTPUTS.values()))

    return write


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"png": "q"}, {"pictures"}),
        ({"text": "u"}, {"pictures"}),
        ({"label": "m"}, {"rest"}),
        ({"score": "2"}, set()),
        ({"held_out": "i"}, {"whole"}),
    ],
)
def test_a_change_changes_the_parts_that_cover_it(versions, change, parts):
    before, after = versions(), versions(**change)
    assert before == versions()
    assert {name for name in PARTS if before[name] != after[name]} == parts


def test_names_of_files_count(versions, tmp_path):
    before = versions()
    (tmp_path / "data/subset/images/a.png").rename(tmp_path / "data/subset/images/b.png")
    store = Store(tmp_path.resolve())
    after = data_versions(store, "lora_subset", OUTPUTS, store.hashes(OUTPUTS.values()))
    assert after["pictures"] != before["pictures"] and after["whole"] == before["whole"]


@pytest.mark.parametrize("name", ["README.md", "images/a.txt"])
def test_files_for_other_readers_do_not_count_as_training_content(tmp_path, name):
    store = Store(tmp_path.resolve())

    def versions(text: str) -> dict[str, str]:
        for folder in OUTPUTS.values():
            for file, content in {"images/a.png": "p", "metadata.jsonl": IMAGE_ROW, name: text}.items():
                (tmp_path / folder / file).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / folder / file).write_text(content)
        outputs = STAGES["lora_subset"].outputs
        return data_versions(store, "lora_subset", outputs, store.hashes(outputs.values()))

    assert versions("one") == versions("two")
