"""The project folder that VDM_ROOT names, and obstacles in the place of its folders."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.store import Store
from vdm_pipeline_tests.bad_inputs.case import Case, parametrize, snapshot
from vdm_pipeline_tests.bad_inputs.test_between_stages import manifest
from vdm_pipeline_tests.defs.assets.graph import materialize


def file(folder: Path) -> Path:
    (folder / "root").write_text("mine")
    return folder / "root"


def folder_with_line_break(folder: Path) -> Path:
    (folder / "a\nb").mkdir()
    return folder / "a\nb"


def pipe_instead_of_lock(root: Path) -> None:
    (root / "results").mkdir()
    os.mkfifo(root / "results/.lock")


def replace(name: str, create: Callable[[Path], object]) -> Callable[[Path], None]:
    """Put something else in the place of a folder."""

    def make(root: Path) -> None:
        shutil.rmtree(root / name)
        create(root / name)

    return make


ROOTS = [
    Case("`VDM_ROOT` that does not exist", "VDM_ROOT", lambda folder: folder / "nowhere"),
    Case("`VDM_ROOT` that is a file", "VDM_ROOT", file),
    Case("`VDM_ROOT` with a line break", "VDM_ROOT", folder_with_line_break),
]
RESULTS = [
    Case("file instead of results/", "results", lambda root: (root / "results").write_text("mine")),
    Case("pipe instead of the lock", "results/.lock", pipe_instead_of_lock),
]
OUTPUTS = {
    "image_embeddings": Case(
        "file instead of an output's folder",
        "results/embeddings",
        replace("results/embeddings", Path.touch),
    ),
    "lora_subset": Case(
        "link to itself instead of an output's folder",
        "data/subset",
        replace("data/subset", lambda path: path.symlink_to(path)),
    ),
    "label_noise": Case(
        "link to another disk instead of results/metrics",
        "results/metrics",
        replace("results/metrics", lambda path: path.symlink_to("/")),
    ),
    "data_faults": Case(
        "link to itself instead of results/metrics",
        "results/metrics",
        replace("results/metrics", lambda path: path.symlink_to(path)),
    ),
}
CASES = [*ROOTS, *RESULTS, *OUTPUTS.values()]


@parametrize(ROOTS)
def test_root_that_is_not_a_folder_is_rejected(case, tmp_path, monkeypatch, sentences):
    monkeypatch.setenv("VDM_ROOT", str(case.make(tmp_path)))
    before = snapshot(tmp_path)
    with pytest.raises(PipelineError) as caught:
        Store.from_environment()
    sentences.check(case, str(caught.value), tmp_path)
    assert snapshot(tmp_path) == before


@parametrize(RESULTS)
def test_obstacle_of_the_lock_is_rejected_and_kept(case, project, sentences):
    case.make(project)
    before = snapshot(project)
    with pytest.raises(PipelineError) as caught, Store(project).lock("run", print):
        pass
    sentences.check(case, str(caught.value), project)
    assert snapshot(project) == before and not (project / "results/.lock").is_file()


@pytest.mark.parametrize("asset", OUTPUTS)
def test_obstacle_of_an_output_is_rejected_and_kept(asset, copied_folder, sentences):
    """The computed files stay in the staging folder for the next run."""
    profile, root = copied_folder
    OUTPUTS[asset].make(root)
    before = snapshot(root)
    sentences.check_run(OUTPUTS[asset], materialize(profile, root, [asset]), root)
    assert {name: content for name, content in snapshot(root).items() if "/.staging" not in name} == before


def test_manifest_without_settings_is_accepted(copied_folder):
    profile, root = copied_folder
    manifest(settings={})(root)
    assert materialize(profile, root, ["labeled_dataset"]).success


@pytest.mark.parametrize("names", ["label_metrics\nreport", "label_metrics report ", "\n"])
def test_forced_assets_may_be_on_several_lines(finished_folder, monkeypatch, names):
    monkeypatch.setenv("VDM_FORCE", names)
    profile, root = finished_folder
    assert Project(profile, Store(root)).forced("label_metrics") == ("label" in names)
