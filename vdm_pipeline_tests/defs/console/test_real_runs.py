"""The last lines of runs of the real assets and checks."""

import subprocess

import pytest

from vdm_pipeline_tests.defs.console.test_console import AGAIN, DAGSTER, ENDING, environment
from vdm_pipeline_tests.paths import make_project
from vdm_pipeline_tests.profiles import write_profile


def real(finished, *selection: str) -> tuple[list[str], int]:
    """The lines that a run of real assets writes to a pipe, and its exit code."""
    write_profile(finished.root / "small.toml", finished.profile)
    make_project(finished.root)
    done = subprocess.run(
        [DAGSTER, "asset", "materialize", "--select", ",".join(selection)],
        cwd=finished.root,
        env=environment("", VDM_PROFILE="small.toml"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return done.stdout.splitlines(), done.returncode


def test_the_real_command_with_nothing_to_do_prints_few_lines(finished):
    lines, code = real(finished, "*report")
    assert code == 0, lines
    assert len(lines) <= 12, lines
    assert [line for line in lines if line.startswith("Nothing to do · 14 up to date")]
    assert f"Report: {finished.results}/report/index.html" in lines


def test_a_real_check_that_does_not_block_fails_and_the_run_succeeds(finished):
    finished.change(checks={"min_adapter_change": 255})
    lines, code = real(finished, "*report")
    assert code == 0, lines
    failed = [line for line in lines if line.startswith("1 check failed: adapter_is_active of image_metrics")]
    assert len(failed) == 1 and len([line for line in lines if "adapter_is_active" in line]) == 2, lines
    assert lines[-3:] == [*failed, f"Report: {finished.results}/report/index.html", ENDING[1]]


@pytest.mark.slow
def test_a_real_check_that_blocks_is_reported_once_with_one_instruction(finished):
    finished.change(checks={"max_class_share": 0.4})
    finished.results.joinpath("metrics/label_suspects.csv").unlink()
    lines, code = real(finished, "*label_noise")
    assert code == 1
    start = "Check labels_predict_every_class of labeled_dataset stopped the run: "
    assert len([line for line in lines if line.startswith(start)]) == 1, lines
    assert lines[-2:] == ["Not computed: label_noise.", AGAIN]
    assert "labels_predict_every_class" in lines[-3] and "run: dg" not in "".join(lines), lines
