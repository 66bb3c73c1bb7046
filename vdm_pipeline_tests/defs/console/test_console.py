"""What Dagster's commands show, with a terminal and without one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vdm_pipeline_tests.defs.console.terminal import (
    COLOUR,
    HIDE_CURSOR,
    SHOW_CURSOR,
    Terminal,
    run_in_terminal,
)
from vdm_pipeline_tests.paths import ROOT, make_project

DAGSTER = str(Path(sys.executable).with_name("dagster"))
TOY = [DAGSTER, "asset", "materialize", "-m", "vdm_pipeline_tests.defs.console.toy", "--select", "*"]
SENTENCE = "weights.npz is empty; delete it, and run again."
AGAIN = "Fix the cause, then run the same command again: finished assets are kept, and training resumes."
LARGE = "! weights: is_large: 2 of 7 are small"
IMAGE = "! weights: an image is ?[31mred"
EXECUTORS = ["in_process", pytest.param("multiprocess", marks=pytest.mark.slow)]
ENDING = [
    "Report: /project/results/report/index.html",
    "Open the report in a browser. To browse all assets: make ui",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    return tmp_path


def environment(mode: str, executor: str = "in_process", **variables: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DAGSTER_", "VDM_"))}
    for name in ("NO_COLOR", "COLUMNS", "FORCE_COLOR"):
        kept.pop(name, None)
    ours = {"TOY": mode, "TOY_EXECUTOR": executor, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    return kept | ours | {"TERM": "xterm-256color"} | variables


def plain(folder: Path, mode: str, executor: str = "in_process", **variables: str) -> tuple[list[str], int]:
    """The lines that the toy writes to a pipe, and its exit code."""
    done = subprocess.run(
        TOY,
        cwd=folder,
        env=environment(mode, executor, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return [line for line in done.stdout.splitlines() if line.strip()], done.returncode


def live(
    folder: Path, mode: str, columns: int = 100, keys: str = "", after: str = "", **variables: str
) -> Terminal:
    """The toy in a terminal."""
    return run_in_terminal(
        TOY, folder, environment(mode, **variables), columns=columns, keys=keys, after=after
    )


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_pipe_gets_one_line_for_each_asset_and_warning(folder, executor):
    lines, code = plain(folder, "fine", executor)
    assert code == 0
    assert lines[:5] == [
        "✓ up to date: archive",
        IMAGE,
        "✓ weights: 400 steps · loss 0.085 · 12 s",
        LARGE,
        "✓ report: one page · < 0.1 s",
    ]
    assert lines[5].startswith("2 assets computed · 1 up to date · 2 checks passed · 2 warnings · ")
    assert lines[6:] == ENDING


def test_a_run_with_nothing_to_do_says_so(folder):
    lines, code = plain(folder, "nothing")
    assert code == 0
    assert lines[0] == "✓ up to date: archive"
    assert lines[-3].startswith("Nothing to do · 3 up to date · 2 checks passed · 2 warnings · ")
    assert lines[-2:] == ENDING
    assert len(lines) <= 12


def test_warnings_that_are_errors_find_no_open_file_at_exit(folder):
    lines, code = plain(folder, "nothing", PYTHONWARNINGS="error::ResourceWarning")
    assert (code, lines[-2:]) == (0, ENDING)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_failure_ends_with_its_sentence_and_the_assets_that_were_not_computed(folder, executor):
    lines, code = plain(folder, "sentence", executor)
    assert code == 1
    assert lines[-3:] == [f"weights failed: {SENTENCE}", "Not computed: report.", AGAIN]
    assert "✗ weights: failed" in lines
    assert not [line for line in lines if "Traceback" in line or "File " in line or "Stack Trace" in line]


def test_a_bug_shows_the_end_of_its_trace(folder):
    lines, code = plain(folder, "bug")
    assert code == 1
    start = lines.index("weights failed: ValueError: latents are not contiguous")
    assert 'toy.py", line ' in lines[-5]
    assert lines[-4] == '    raise ValueError("latents are not contiguous")'
    assert lines[-3] == (
        "Unexpected error, perhaps a bug. The full stack trace is on the run's page: make ui"
    )
    assert len(lines) - start <= 12


def test_a_process_that_was_killed_is_reported(folder):
    lines, code = plain(folder, "killed", "multiprocess")
    assert code == 1
    assert "terminated by signal 9 (SIGKILL). If memory ran out, lower the batch sizes" in lines[-3]
    assert lines[-2] == "Not computed: report."


def test_a_blocking_check_stops_the_run_with_its_sentence(folder):
    lines, code = plain(folder, "unsound")
    assert code == 1
    assert lines[-3:] == [
        "Check is_sound of weights stopped the run: 1 are broken.",
        "Not computed: report.",
        AGAIN,
    ]
    assert "✗ weights: is_sound: 1 are broken" in lines and "✗ weights: failed" not in lines


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_failed_check_that_does_not_block_keeps_the_report_and_the_exit_code(folder, executor):
    lines, code = plain(folder, "impure", executor)
    assert code == 0
    assert "✗ weights: is_pure: purity is 0.99" in lines
    assert lines[-4].startswith("2 assets computed · 1 up to date · 1 check passed · 2 warnings · ")
    assert lines[-3:] == ["1 check failed: is_pure of weights: purity is 0.99.", *ENDING]


def test_a_failed_check_is_not_hidden_by_a_check_that_stops_the_run(folder):
    lines, code = plain(folder, "impure, unsound")
    assert code == 1
    assert lines[-4:] == [
        "1 check failed: is_pure of weights: purity is 0.99.",
        "Check is_sound of weights stopped the run: 1 are broken.",
        "Not computed: report.",
        AGAIN,
    ]


def test_a_display_that_fails_does_not_fail_the_run(folder):
    lines, code = plain(folder, "no result")
    assert code == 0
    assert [line for line in lines if line.startswith("The run cannot be shown here: KeyError")]
    assert AGAIN not in lines and not [line for line in lines if "failed" in line]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_resource_that_fails_ends_with_its_sentence_too(folder, executor):
    lines, code = plain(folder, "resource", executor)
    assert code == 1
    assert [line for line in lines if "has no locks" in line] == [
        f"{'report' if executor == 'multiprocess' else 'run'} failed: results has no locks; set VDM_ROOT."
    ]
    assert not [line for line in lines if "Traceback" in line or "File " in line]


def test_a_run_that_fails_before_its_executor_is_not_silent(folder):
    lines, code = plain(folder, "no executor")
    assert code == 1
    assert [line for line in lines if "ZeroDivisionError" in line]


def test_dagsters_events_appear_on_request(folder):
    quiet, _ = plain(folder, "fine")
    assert not [line for line in quiet if "STEP_START" in line or "a library prints" in line]
    (output,) = folder.glob("results/.dagster/logs/*/*/*.out")
    assert output.read_text() == "a library prints\n", "the page of the run shows it"
    lines, code = plain(folder, "fine", VDM_LOG="debug")
    assert code == 0
    assert [line for line in lines if "STEP_START" in line and "weights" in line]
    assert [line for line in lines if "step 3/4" in line]
    assert [line for line in lines if "a library prints" in line]


def test_an_unknown_level_gets_one_sentence(project):
    done = subprocess.run(
        [DAGSTER, "asset", "materialize", "--select", "report"],
        cwd=make_project(project),
        env=environment("fine", VDM_LOG="loud"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == "Error: VDM_LOG is 'loud', which is not a level; use one of info, debug.\n"


def test_a_terminal_gets_live_bars_colours_and_its_cursor_back(folder):
    shown = live(folder, "fine")
    assert shown.returncode == 0
    assert shown.raw.count(HIDE_CURSOR) == shown.raw.count(SHOW_CURSOR) == 1
    assert "\x1b[32m✓\x1b[0m weights" in shown.raw
    assert [line for line in shown.lines if line.startswith("✓ archive") and "up to date" in line]
    assert [
        line for line in shown.lines if line.startswith("! weights") and "is_large: 2 of 7 are small" in line
    ]
    assert [line for line in shown.lines if "2 checks passed" in line]
    assert shown.lines[-2:] == ENDING


@pytest.mark.parametrize(("columns", "after"), [(40, "an image is"), (100, "step 4/4")])
def test_no_line_is_wider_than_the_terminal(folder, columns, after):
    from rich.cells import cell_len

    shown = live(folder, "wait", columns=columns, keys="\x03", after=after)
    lines = [line for line in shown.lines if not line.startswith(("Interrupted", "Error"))]
    assert max(map(cell_len, lines)) <= columns, lines
    if columns > 40:
        assert [line for line in shown.lines if "weights" in line and "step 4/4: 损失" in line]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_ctrl_c_ends_with_one_line_and_gives_the_cursor_back(folder, executor):
    """The terminal sends it to every process of the command."""
    shown = live(folder, "wait", keys="\x03", after="an image is", TOY_EXECUTOR=executor)
    assert shown.returncode == 1
    assert shown.raw.rindex(SHOW_CURSOR) > shown.raw.rindex(HIDE_CURSOR)
    assert shown.lines[-1] == (
        "Interrupted; run the same command again: finished assets are kept, and training resumes."
    )
    assert "Traceback" not in shown.raw


def test_no_color_keeps_the_bars_without_colours(folder):
    shown = live(folder, "fine", NO_COLOR="1")
    assert HIDE_CURSOR in shown.raw
    assert not COLOUR.search(shown.raw)


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(folder):
    shown = live(folder, "fine", TERM="dumb")
    assert HIDE_CURSOR not in shown.raw
    assert shown.lines[0] == "✓ up to date: archive"
