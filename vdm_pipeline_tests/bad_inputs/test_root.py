"""The project folder that VDM_ROOT names, and what stands in the place of its folders."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.store import Store
from vdm_pipeline_tests.bad_inputs.case import Case, check, each, snapshot
from vdm_pipeline_tests.bad_inputs.test_between_stages import record
from vdm_pipeline_tests.defs.assets.graph import materialize, sentence


def made(name: str) -> Callable[[Path], Path]:
    return lambda folder: ((folder / name).mkdir(), folder / name)[1]


def instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda root: (shutil.rmtree(root / name), make(root / name))


def a_file(folder: Path) -> Path:
    (folder / "root").write_text("mine")
    return folder / "root"


CASES = [
    Case(
        "`VDM_ROOT` that is not there",
        "VDM_ROOT is '…/nowhere', which is no folder; make it, or name another.",
        lambda folder: folder / "nowhere",
    ),
    Case(
        "`VDM_ROOT` that is a file",
        "VDM_ROOT is '…/root', which is no folder; make it, or name another.",
        a_file,
    ),
    Case(
        "`VDM_ROOT` with a line break",
        r"VDM_ROOT is '…/a\nb', whose name has a line break; name another folder.",
        made("a\nb"),
    ),
]
AWAY = "something else stands in its place, move it away."
IN_THE_WAY = [
    Case(
        "file in the place of results/",
        f"…results: File exists; {AWAY}",
        lambda root: (root / "results").write_text("mine"),
    ),
    Case(
        "pipe in the place of the lock",
        f"…results/.lock: no plain file; {AWAY}",
        lambda root: ((root / "results").mkdir(), os.mkfifo(root / "results/.lock")),
    ),
]
OUTPUTS = {
    "image_embeddings": Case(
        "file in the place of an output's folder",
        f"…results/embeddings: Not a directory; {AWAY}",
        instead("results/embeddings", Path.touch),
    ),
    "lora_subset": Case(
        "link to itself in the place of an output's folder",
        f"…data/subset: Not a directory; {AWAY}",
        instead("data/subset", lambda path: path.symlink_to(path)),
    ),
    "label_noise": Case(
        "link to another disk in the place of results/metrics",
        "…results/metrics is a link that leads out of the project folder; move it away, or put the folder itself there.",
        instead("results/metrics", lambda path: path.symlink_to("/")),
    ),
    "data_faults": Case(
        "link to itself in the place of results/metrics",
        f"…results/metrics: File exists; {AWAY}",
        instead("results/metrics", lambda path: path.symlink_to(path)),
    ),
}
ALL = [*CASES, *IN_THE_WAY, *OUTPUTS.values()]


@each(CASES)
def test_a_root_that_is_no_folder_is_a_sentence(case, tmp_path, monkeypatch):
    monkeypatch.setenv("VDM_ROOT", str(case.make(tmp_path)))
    before = snapshot(tmp_path)
    with pytest.raises(PipelineError) as caught:
        Store.from_environment()
    check(case, str(caught.value))
    assert snapshot(tmp_path) == before


@each(IN_THE_WAY)
def test_what_stands_in_the_place_of_the_lock_is_a_sentence(case, project):
    case.make(project)
    before = snapshot(project)
    with pytest.raises(PipelineError) as caught, Store(project).working("run", print):
        pass
    check(case, str(caught.value))
    assert snapshot(project) == before and not (project / "results/.lock").is_file()


@pytest.mark.parametrize("asset", OUTPUTS)
def test_what_stands_in_the_place_of_an_output_stays(asset, copied):
    """What was made is kept for the run after it was moved away."""
    profile, root = copied
    OUTPUTS[asset].make(root)
    before = snapshot(root)
    check(OUTPUTS[asset], sentence(materialize(profile, root, [asset])))
    assert {name: content for name, content in snapshot(root).items() if "/.staging" not in name} == before


def test_a_record_without_settings_is_still_a_record(copied):
    profile, root = copied
    record(settings={})(root)
    assert materialize(profile, root, ["labeled_dataset"]).success


@pytest.mark.parametrize("named", ["label_metrics\nreport", "label_metrics report ", "\n"])
def test_what_is_forced_may_stand_on_several_lines(finished, monkeypatch, named):
    monkeypatch.setenv("VDM_FORCE", named)
    assert Project(finished[0], Store(finished[1])).forced("label_metrics") == ("label" in named)
