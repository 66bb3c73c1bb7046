"""The cell of docs/hosted_gpu.ipynb that gets the project: from a zip, a repository or a folder."""

import re
import subprocess
from pathlib import Path

import pytest

from vdm_pipeline_tests.docs.notebook import source


def get(given: str) -> Path:
    """Run the notebook's cell; returns the project's folder."""
    names: dict = {"SOURCE": given}
    exec(source("get"), names)
    return names["project"]


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A minimal repository beside the folder where the notebook runs."""
    folder = tmp_path / "clone"
    (folder / "vdm_pipeline").mkdir(parents=True)
    (folder / "vdm_pipeline/definitions.py").write_text("new")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    (tmp_path / "hosted").mkdir()
    monkeypatch.chdir(tmp_path / "hosted")
    return folder


def packed(clone: Path, prefix: str) -> str:
    """Run the notebook's command for a zip; some sites add a top folder."""
    (command,) = re.findall(r"`(git archive [^`]+)`", source("parameters-text"))
    subprocess.run([*command.split(), f"--prefix={prefix}"], cwd=clone, check=True)
    return str(clone / "vdm_pipeline.zip")


@pytest.mark.parametrize("prefix", ["", "vdm_pipeline-main/"])
def test_source_may_be_a_zip_and_results_stay(clone, prefix):
    given = packed(clone, prefix)
    first = get(given)
    (first / "results").mkdir()
    (first / "vdm_pipeline/definitions.py").write_text("old")
    assert get(given) == first == Path("vdm_pipeline_project", prefix).resolve()
    assert (first / "vdm_pipeline/definitions.py").read_text() == "new" and (first / "results").is_dir()


def test_source_may_be_a_repository_or_a_folder(clone):
    assert get(clone.as_uri()) == Path("vdm_pipeline_project").resolve()
    assert Path("vdm_pipeline_project/.git").is_dir()
    assert get(str(clone)) == clone and get("../clone") == clone


@pytest.mark.parametrize(
    ("given", "error"),
    [("gone.zip", "gone.zip does not exist"), (".", "SOURCE = .* does not contain the project")],
)
def test_source_without_the_project_is_an_error(clone, given, error):
    with pytest.raises(FileNotFoundError, match=error):
        get(given)
