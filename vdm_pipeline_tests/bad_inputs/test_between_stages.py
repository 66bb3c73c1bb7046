"""What stands between stages, by way of the graph: edited files and damaged records are refused, and stay."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vdm_pipeline_tests.bad_inputs.case import Case, check, each, snapshot
from vdm_pipeline_tests.defs.assets.graph import materialize, sentence

COMMAND = "run: dagster asset materialize -m vdm_pipeline.definitions --select"
TABLE, SUBSET = "results/labeled_dataset.csv", "data/subset/metadata.jsonl"
MARKUP = "<img src=x onerror=alert(1)>"
RECORD = "results/.manifests/labeled_dataset.json"


def changed(asset: str) -> str:
    return f"Files of asset {asset} were changed since they were made; {COMMAND} '*{asset}'"


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: ((root / name).write_bytes(content), None)[1]


def edit(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        content = (root / name).read_bytes()
        assert old in content
        (root / name).write_bytes(content.replace(old, new, 1))

    return make


def drop_a_row(root: Path) -> None:
    lines = (root / TABLE).read_bytes().splitlines(keepends=True)
    (root / TABLE).write_bytes(b"".join(lines[:5] + lines[6:]))


def folder_instead(name: str) -> Callable[[Path], None]:
    return lambda root: ((root / name).unlink(), (root / name).mkdir())[1]


def link_instead(root: Path) -> None:
    """To a table of somebody else's."""
    other = root.parent / "other.csv"
    other.write_bytes((root / TABLE).read_bytes() + b"phantom_train_999999,normal,0,normal,1,train,1,0,1,0\n")
    (root / TABLE).unlink()
    (root / TABLE).symlink_to(other)


def half(pattern: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        path = min(root.glob(pattern))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return make


def record(**changes: object) -> Callable[[Path], None]:
    """The record with other values; None drops a key."""

    def make(root: Path) -> None:
        values = json.loads((root / RECORD).read_bytes()) | changes
        (root / RECORD).write_text(
            json.dumps({key: value for key, value in values.items() if value is not None})
        )

    return make


def giant(root: Path) -> None:
    with (root / RECORD).open("ab") as file:
        file.truncate(2**33)


LABELS = [
    Case("labels without a row", changed("labeled_dataset"), drop_a_row),
    Case("labels emptied", changed("labeled_dataset"), write(TABLE, b"")),
    Case(
        "labels deleted",
        f"…labeled_dataset.csv, made by asset labeled_dataset, is gone; {COMMAND} '*labeled_dataset'",
        lambda root: (root / TABLE).unlink(),
    ),
    Case("folder in the place of the labels", changed("labeled_dataset"), folder_instead(TABLE)),
    Case("link to other labels", changed("labeled_dataset"), link_instead),
]
DAMAGED = "…labeled_dataset.json is damaged; delete it, and the asset is made again."
RECORDS = [
    Case("record cut short", DAMAGED, half(RECORD)),
    Case("record that is a list", DAMAGED, write(RECORD, b"[]")),
    Case("record that is not UTF-8", DAMAGED, write(RECORD, b"\xff\xfe{}")),
    Case("record nested 100,000 deep", DAMAGED, write(RECORD, b"[" * 100_000 + b"]" * 100_000)),
    Case("record of wrong types", DAMAGED, record(seconds="long")),
    Case("record without its fingerprint", DAMAGED, record(fingerprint=None)),
    Case("record with a further key", DAMAGED, record(more=1)),
    Case("record of 8 GiB", DAMAGED, giant),
    Case("record of a file above the project", DAMAGED, record(files={"../../etc/passwd": "0" * 64})),
    Case("record of an absolute file", DAMAGED, record(files={"/etc/passwd": "0" * 64})),
    Case("record of a file whose name has NUL", DAMAGED, record(files={"results/\0": "0" * 64})),
    Case(
        "record of a file whose name has 5000 letters",
        DAMAGED,
        record(files={f"results/{'x' * 5000}": "0" * 64}),
    ),
    Case("record whose preview is no text", DAMAGED, record(metadata={"preview": 5})),
    Case("record of another asset", DAMAGED, record(asset="label_metrics")),
    Case("folder in the place of a record", DAMAGED, folder_instead(RECORD)),
]
OTHERS = {
    "image_embeddings": [
        Case("archive changed after it was looked at", changed("raw_npz"), half("data/*.npz"))
    ],
    "data_faults": [
        Case("embeddings cut short", changed("image_embeddings"), half("results/embeddings/train_*"))
    ],
    "lora_subset": [
        Case(
            "findings of the checks that are damaged",
            "…labeled_dataset.checks.json is damaged; delete it, and the checks look again.",
            write("results/.manifests/labeled_dataset.checks.json", b"{"),
        )
    ],
    "lora_weights": [
        Case(
            "caption edited in `metadata.jsonl`",
            changed("lora_subset"),
            edit(SUBSET, b"pneumonia", b"normal"),
        ),
        Case(
            "`metadata.jsonl` that names a file above its folder",
            changed("lora_subset"),
            edit(SUBSET, b"images/", b"../../"),
        ),
        Case("training image cut short", changed("lora_subset"), half("data/subset/images/*.png")),
    ],
    "generated_images": [
        Case(
            "pickle in the place of the trained adapter",
            changed("lora_weights"),
            write(
                "results/lora/pytorch_lora_weights.safetensors",
                b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00K\x01.",
            ),
        )
    ],
    "pipeline_summary": [
        Case(
            "metrics that are no JSON",
            changed("image_metrics"),
            write("results/metrics/image_metrics.json", b"{"),
        )
    ],
}
ASKED = {"label_metrics": [*LABELS, *RECORDS], **OTHERS}
SHARD = Case(
    "shard of embeddings too many",
    "160 embeddings for 80 images of train; materialize image_embeddings again.",
    lambda root: shutil.copy(
        root / "results/embeddings/train_00000.safetensors",
        root / "results/embeddings/train_00001.safetensors",
    ),
)
CASES = [*(case for cases in ASKED.values() for case in cases), SHARD]


@each(CASES[:-1])
def test_what_was_edited_between_stages_is_refused_and_stays(case, copied):
    profile, root = copied
    asked = next(asset for asset, cases in ASKED.items() if case in cases)
    case.make(root)
    before = snapshot(root) if case.make is not giant else (root / RECORD).stat().st_size
    result = materialize(profile, root, [asked])
    assert not result.success
    check(case, sentence(result))
    assert before == (snapshot(root) if case.make is not giant else (root / RECORD).stat().st_size)


@pytest.mark.parametrize("asked", ["labeled_dataset", "data_faults", "label_noise", "lora_subset"])
def test_embeddings_of_no_image_are_refused_and_stay(asked, copied, monkeypatch):
    profile, root = copied
    SHARD.make(root)
    monkeypatch.setenv("VDM_FORCE", asked)
    before = snapshot(root)
    check(SHARD, sentence(materialize(profile, root, [asked])))
    assert snapshot(root) == before


def test_markup_stays_text_wherever_it_is_shown(copied):
    profile, root = copied
    model = profile.labelling.model.model_copy(update={"licence": MARKUP})
    named = profile.model_copy(
        update={"name": MARKUP, "labelling": profile.labelling.model_copy(update={"model": model})}
    )
    assert materialize(named, root).success
    page = (root / "results/report/index.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page and page.count("&lt;img src=x onerror=alert(1)&gt;") > 2
    captioned = profile.model_copy(
        update={"classes": profile.classes.model_copy(update={"template": f"{MARKUP} {{phrase}}"})}
    )
    assert materialize(captioned, root, ["labeled_dataset", "lora_subset"]).success
    shown = json.loads((root / "results/.manifests/lora_subset.json").read_bytes())["metadata"]["preview"]
    assert "<img src=x" not in shown and "&lt;img src=x" in shown
