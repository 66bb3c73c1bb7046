"""Plots have the same bytes whatever the user's Matplotlib is configured to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.stages.report.plots.figure import save_figure
from vdm_pipeline.stages.report.plots.training import loss_figure
from vdm_pipeline_tests.paths import ROOT

LOG = "step,loss,validation_loss\n1,0.5,0.4\n1000,1234.25,\n2000,0.25,0.3\n"
RC = """
text.usetex: True
backend: TkAgg
axes.formatter.use_locale: True
axes.prop_cycle: cycler('color', ['red'])
savefig.dpi: 30
savefig.bbox: tight
savefig.transparent: True
figure.facecolor: black
legend.fontsize: 30
lines.linewidth: 9
font.family: monospace
"""
DRAW = """
import sys
from pathlib import Path
from vdm_pipeline.stages.report.plots.figure import save_figure
from vdm_pipeline.stages.report.plots.training import loss_figure
save_figure(loss_figure(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.fixture
def log(tmp_path) -> Path:
    (tmp_path / "log.csv").write_text(LOG)
    return tmp_path / "log.csv"


@pytest.fixture
def expected(log, tmp_path) -> bytes:
    save_figure(loss_figure(log), tmp_path / "expected.png")
    return (tmp_path / "expected.png").read_bytes()


@pytest.fixture
def user(tmp_path) -> Path:
    """A user's configuration folder."""
    folder = tmp_path / "user"
    folder.mkdir()
    (folder / "matplotlibrc").write_text(RC)
    return folder


def drawn(log: Path, folder: Path, **environment: str) -> bytes:
    """Drawn by a new process in ``folder``."""
    path = log.with_name("drawn.png")
    settings = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": str(folder), **environment}
    subprocess.run([sys.executable, "-c", DRAW, log, path], cwd=folder, env=settings, check=True)
    return path.read_bytes()


def test_a_matplotlibrc_changes_no_plot_and_stays_in_force_for_the_user(log, expected, user, tmp_path):
    import matplotlib as mpl

    with mpl.rc_context(fname=user / "matplotlibrc"):
        save_figure(loss_figure(log), tmp_path / "drawn.png")
        assert mpl.rcParams["text.usetex"] and mpl.rcParams["lines.linewidth"] == 9
    assert (tmp_path / "drawn.png").read_bytes() == expected


def test_it_lies_in_the_working_folder(log, expected, user):
    assert drawn(log, user) == expected


def test_it_is_named_in_the_environment_with_a_backend_that_nobody_knows(log, expected, user, tmp_path):
    assert drawn(log, tmp_path, MATPLOTLIBRC=str(user), MPLBACKEND="nonsense") == expected


def test_it_lies_in_the_configuration_folder(log, expected, user, tmp_path):
    assert drawn(log, tmp_path, MPLCONFIGDIR=str(user)) == expected


def test_the_configuration_folder_cannot_be_written(log, expected, tmp_path):
    assert drawn(log, tmp_path, MPLCONFIGDIR="/proc/nowhere", LC_ALL="de_DE.UTF-8") == expected


def test_one_that_cannot_be_read_is_one_sentence(log, tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    result = subprocess.run(
        [sys.executable, "-c", DRAW, log, tmp_path / "drawn.png"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{PipelineError.__name__}: Matplotlib cannot read the matplotlibrc" in result.stderr
