"""A project in which every asset is materialized, to change one thing and run again."""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vdm_pipeline.graph import STAGES
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.staleness import up_to_date_manifest
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.io.hashing import folder_digest
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline.stages.data.npz import write_npz
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline_tests.defs.assets.graph import materialize
from vdm_pipeline_tests.profiles import shrink


@dataclass
class ProjectFolder:
    """A project folder in which every asset is materialized, with its own Dagster instance."""

    profile: Profile
    root: Path
    home: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def archive(self) -> Path:
        return self.root / "data" / self.profile.data.file_name

    def change(self, **sections: dict) -> None:
        """Change the profile."""
        self.profile = shrink(self.profile, **sections)

    def rename_profile(self, name: str) -> None:
        """Give the profile another name."""
        self.profile = self.profile.model_copy(update={"name": name})

    def pin(self, model: str) -> dict:
        """The same model under another pin: its bytes in a folder."""
        folder = self.root.parent / model
        shutil.copytree(EMBEDDED / model, folder)
        return {"id": str(folder), "sha256": folder_digest(folder), "licence": "MIT"}

    def new_code(self, asset: str) -> None:
        """Another version of a stage's code."""
        self.monkeypatch.setitem(STAGES, asset, dataclasses.replace(STAGES[asset], version=99))

    def move(self) -> None:
        """Copy the project folder, and continue in the copy."""
        shutil.copytree(self.root, self.root.parent / "elsewhere")
        self.root = self.root.parent / "elsewhere"

    def change_a_pixel(self, split: str, *, selected: bool) -> None:
        """Change a pixel of an image that is in the subset or its held-out images, or of one that is not."""
        rows = [
            row["image_id"].rsplit("_", 2)[1:]
            for folder in ("subset", "subset_held_out")
            for row in read_rows(self.root / "data" / folder / "metadata.jsonl")
        ]
        in_subset = {int(number) for name, number in rows if name == split}

        def change(arrays: dict[str, np.ndarray]) -> None:
            images = arrays[f"{split}_images"]
            chosen = next(row for row in range(len(images)) if (row in in_subset) == selected)
            images[chosen, 30, 30] ^= 64

        self.change_archive(change)

    def change_a_true_label(self) -> None:
        """Exchange the true labels of two val images of different classes."""

        def change(arrays: dict[str, np.ndarray]) -> None:
            labels = arrays["val_labels"]
            first, second = (int(np.flatnonzero(labels.ravel() == label)[-1]) for label in (0, 1))
            labels[[first, second]] = labels[[second, first]]

        self.change_archive(change)

    def change_archive(self, change: Callable[[dict[str, np.ndarray]], None]) -> None:
        """Change the archive's arrays, and its pin in the profile."""
        with np.load(self.archive) as old:
            arrays = {key: old[key].copy() for key in old}
        change(arrays)
        write_npz(self.archive, arrays)
        self.change(data={"own": describe_archive(self.archive)})

    def change_a_duration(self, asset: str) -> None:
        """Change what the asset's computation cost."""
        store = Store(self.root)
        manifest = store.manifest(asset)
        assert manifest
        store.write_manifest(manifest.model_copy(update={"seconds": 999.0, "peak_memory_mb": 999.0}))

    def stale(self) -> set[str]:
        """Stale assets by the manifests."""
        project = Project(self.profile, Store(self.root))
        return {asset for asset in STAGES if not up_to_date_manifest(project, asset)}


def describe_archive(archive: Path) -> dict:
    return {"channels": 1, "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(), "licence": "CC0"}


def smallest(root: Path) -> Profile:
    """The demo's phantoms as a user's own archive. With a constant learning rate, training can add steps."""
    sections = {"training": {"lr_scheduler": "constant"}, "subset": {"validation_per_class": 8}}
    demo = shrink(load_profile("demo"), **sections)
    materialize(demo, root, ["raw_npz"])
    shutil.rmtree(root / "results")
    (root / "data" / demo.data.file_name).rename(root / "data/mine_64.npz")
    return shrink(
        demo, data={"dataset": "mine", "source": "file", "own": describe_archive(root / "data/mine_64.npz")}
    )
