"""Files between the stages: an asset rejects edited files and damaged manifests upstream, and keeps them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vdm_pipeline_tests.bad_inputs.case import Case, parametrize, snapshot
from vdm_pipeline_tests.defs.assets.graph import materialize

TABLE, SUBSET = "results/labeled_dataset.csv", "data/subset/metadata.jsonl"
MANIFEST = "results/.manifests/labeled_dataset.json"
MARKUP = "<img src=x onerror=alert(1)>"
PICKLE = b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00K\x01."
Change = Callable[[Path], object]


def write(name: str, content: bytes) -> Change:
    """Write a file."""
    return lambda root: (root / name).write_bytes(content)


def edit(name: str, old: bytes, new: bytes) -> Change:
    """Replace the first occurrence of a text in a file."""

    def make(root: Path) -> None:
        content = (root / name).read_bytes()
        assert old in content
        (root / name).write_bytes(content.replace(old, new, 1))

    return make


def drop_a_row(root: Path) -> None:
    """Remove one row of the labels."""
    lines = (root / TABLE).read_bytes().splitlines(keepends=True)
    (root / TABLE).write_bytes(b"".join(lines[:5] + lines[6:]))


def replace_by_folder(name: str) -> Change:
    """Put a folder in the place of a file."""

    def make(root: Path) -> None:
        (root / name).unlink()
        (root / name).mkdir()

    return make


def replace_by_link(root: Path) -> None:
    """Put a link to another table in the place of the labels."""
    other = root.parent / "other.csv"
    other.write_bytes((root / TABLE).read_bytes() + b"phantom_train_999999,normal,0,normal,1,train,1,0,1,0\n")
    (root / TABLE).unlink()
    (root / TABLE).symlink_to(other)


def cut_in_half(pattern: str) -> Change:
    """Remove the second half of the first file that matches."""

    def make(root: Path) -> None:
        path = min(root.glob(pattern))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return make


def manifest(**changes: object) -> Change:
    """Change values of the manifest; None removes a key."""

    def make(root: Path) -> None:
        values = json.loads((root / MANIFEST).read_bytes()) | changes
        kept = {key: value for key, value in values.items() if value is not None}
        (root / MANIFEST).write_text(json.dumps(kept))

    return make


def grow_manifest(root: Path) -> None:
    """Grow the manifest to 8 GiB that take no space on disk."""
    with (root / MANIFEST).open("ab") as file:
        file.truncate(2**33)


LABELS = [
    Case("labels without a row", "asset labeled_dataset", drop_a_row),
    Case("labels emptied", "asset labeled_dataset", write(TABLE, b"")),
    Case("folder instead of the labels", "asset labeled_dataset", replace_by_folder(TABLE)),
    Case("link to other labels", "asset labeled_dataset", replace_by_link),
    Case("labels deleted", "labeled_dataset.csv", lambda root: (root / TABLE).unlink()),
]
MANIFESTS = [
    Case(title, "labeled_dataset.json", make)
    for title, make in (
        ("manifest cut short", cut_in_half(MANIFEST)),
        ("manifest that is a list", write(MANIFEST, b"[]")),
        ("manifest that is not UTF-8", write(MANIFEST, b"\xff\xfe{}")),
        ("manifest nested 100,000 deep", write(MANIFEST, b"[" * 100_000 + b"]" * 100_000)),
        ("manifest with wrong types", manifest(seconds="long")),
        ("manifest without its fingerprint", manifest(fingerprint=None)),
        ("manifest with a further key", manifest(more=1)),
        ("manifest of 8 GiB", grow_manifest),
        ("manifest with a file above the project", manifest(files={"../../etc/passwd": "0" * 64})),
        ("manifest with an absolute path", manifest(files={"/etc/passwd": "0" * 64})),
        ("manifest with NUL in a file's name", manifest(files={"results/\0": "0" * 64})),
        ("manifest with a file's name of 5000 letters", manifest(files={f"results/{'x' * 5000}": "0" * 64})),
        ("manifest with a preview that is not a text", manifest(metadata={"preview": 5})),
        ("manifest of another asset", manifest(asset="label_metrics")),
        ("folder instead of a manifest", replace_by_folder(MANIFEST)),
    )
]
OTHERS = {
    "image_embeddings": [
        Case("archive changed after it was checked", "asset raw_npz", cut_in_half("data/*.npz"))
    ],
    "data_faults": [
        Case("embeddings cut short", "asset image_embeddings", cut_in_half("results/embeddings/train_*"))
    ],
    "lora_subset": [
        Case(
            "damaged results of checks",
            "labeled_dataset.checks.json",
            write("results/.manifests/labeled_dataset.checks.json", b"{"),
        )
    ],
    "lora_weights": [
        Case(
            "caption edited in `metadata.jsonl`", "asset lora_subset", edit(SUBSET, b"pneumonia", b"normal")
        ),
        Case(
            "`metadata.jsonl` that names a file above its folder",
            "asset lora_subset",
            edit(SUBSET, b"images/", b"../../"),
        ),
        Case("training image cut short", "asset lora_subset", cut_in_half("data/subset/images/*.png")),
    ],
    "generated_images": [
        Case(
            "pickle instead of the trained adapter",
            "asset lora_weights",
            write("results/lora/pytorch_lora_weights.safetensors", PICKLE),
        )
    ],
    "pipeline_summary": [
        Case(
            "metrics that are not JSON",
            "asset image_metrics",
            write("results/metrics/image_metrics.json", b"{"),
        )
    ],
}
BY_ASSET = {"label_metrics": [*LABELS, *MANIFESTS], **OTHERS}
"""The cases by the asset that reads the bad files."""
EXTRA_SHARD = Case(
    "too many shards of embeddings",
    "image_embeddings",
    lambda root: shutil.copy(
        root / "results/embeddings/train_00000.safetensors",
        root / "results/embeddings/train_00001.safetensors",
    ),
)
EDITED = [case for cases in BY_ASSET.values() for case in cases]
CASES = [*EDITED, EXTRA_SHARD]


def content(case: Case, root: Path) -> object:
    """What the run must not change; of a huge manifest its size."""
    return (root / MANIFEST).stat().st_size if case.make is grow_manifest else snapshot(root)


@parametrize(EDITED)
def test_edited_upstream_is_rejected_and_kept(case, copied_folder, sentences):
    profile, root = copied_folder
    asset = next(asset for asset, cases in BY_ASSET.items() if case in cases)
    case.make(root)
    before = content(case, root)
    sentences.check_run(case, materialize(profile, root, [asset]), root)
    assert content(case, root) == before


@pytest.mark.parametrize("asset", ["labeled_dataset", "data_faults", "label_noise", "lora_subset"])
def test_embeddings_without_an_image_are_rejected_and_kept(asset, copied_folder, monkeypatch, sentences):
    profile, root = copied_folder
    EXTRA_SHARD.make(root)
    monkeypatch.setenv("VDM_FORCE", asset)
    before = snapshot(root)
    sentences.check_run(EXTRA_SHARD, materialize(profile, root, [asset]), root)
    assert snapshot(root) == before


def test_markup_is_shown_as_text(copied_folder):
    profile, root = copied_folder
    model = profile.labelling.model.model_copy(update={"licence": MARKUP})
    labelling = profile.labelling.model_copy(update={"model": model})
    named = profile.model_copy(update={"name": MARKUP, "labelling": labelling})
    assert materialize(named, root).success
    page = (root / "results/report/index.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page and page.count("&lt;img src=x onerror=alert(1)&gt;") > 2
    classes = profile.classes.model_copy(update={"template": f"{MARKUP} {{phrase}}"})
    captioned = profile.model_copy(update={"classes": classes})
    assert materialize(captioned, root, ["labeled_dataset", "lora_subset"]).success
    preview = json.loads((root / "results/.manifests/lora_subset.json").read_bytes())["metadata"]["preview"]
    assert "<img src=x" not in preview and "&lt;img src=x" in preview
