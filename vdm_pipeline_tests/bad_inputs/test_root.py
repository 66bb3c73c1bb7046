"""The project folder that VDM_ROOT names, and what stands in the place of its folders."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.store import Store
from vdm_pipeline.resources import Run
from vdm_pipeline_tests.assets.graph import materialize
from vdm_pipeline_tests.bad_inputs.case import Case, check, each, snapshot
from vdm_pipeline_tests.bad_inputs.test_between_stages import record


def made(name: str) -> Callable[[Path], Path]:
    return lambda folder: ((folder / name).mkdir(), folder / name)[1]


def a_file(folder: Path) -> Path:
    (folder / "root").write_text("mine")
    return folder / "root"


CASES = [
    Case(
        "`VDM_ROOT` that is not there",
        "VDM_ROOT is '…/nowhere', which is no folder; make it, or name another.",
        lambda folder: folder / "nowhere",
    ),
    Case("`VDM_ROOT` that is a file", "VDM_ROOT is '…/root', which is no folder; make it, or name another.", a_file),
    Case("`VDM_ROOT` with a line break", r"VDM_ROOT is '…/a\nb', whose name has a line break; name another folder.", made("a\nb")),
]
IN_THE_WAY = Case(
    "file in the place of results/",
    "…results: File exists; something else stands in its place, move it away.",
    lambda root: ((root / "results").write_text("mine"), None)[1],
)
ALL = [*CASES, IN_THE_WAY]


@each(CASES)
def test_a_root_that_is_no_folder_is_a_sentence(case, tmp_path, monkeypatch):
    monkeypatch.setenv("VDM_ROOT", str(case.make(tmp_path)))
    before = snapshot(tmp_path)
    with pytest.raises(PipelineError) as caught:
        Store.from_environment()
    check(case, str(caught.value))
    assert snapshot(tmp_path) == before


def test_a_file_in_the_place_of_results_is_a_sentence(tiny, project):
    IN_THE_WAY.make(project)
    with pytest.raises(PipelineError) as caught, Store(project).working("run", print):
        pass
    check(IN_THE_WAY, str(caught.value))
    assert (project / "results").read_text() == "mine"


def test_a_record_without_settings_is_still_a_record(copied):
    profile, root = copied
    record(settings={})(root)
    assert materialize(profile, root, ["labeled_dataset"]).success


@pytest.mark.parametrize("named", ["label_metrics\nreport", "label_metrics report ", "\n"])
def test_what_is_forced_may_stand_on_several_lines(finished, monkeypatch, named):
    monkeypatch.setenv("VDM_FORCE", named)
    assert Run(finished[0], Store(finished[1])).forced("label_metrics") == ("label" in named)
