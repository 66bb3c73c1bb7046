"""What the screens show, without Dagster."""

import io
import os
import pty

import pytest
from rich.console import Console

from vdm_pipeline.defs.console.live_screen import LiveScreen
from vdm_pipeline.defs.console.plain_screen import PlainScreen
from vdm_pipeline.defs.console.screen import can_move_cursor, duration, plural, printable
from vdm_pipeline.defs.one_line_results import RESULTS, one_line_result
from vdm_pipeline.graph import STAGES
from vdm_pipeline.incremental.store import Store


def written(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "< 0.1 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (125, "2 min 5 s"),
        (11_520, "3 h 12 min"),
    ],
)
def test_a_duration_reads_as_one_says_it(seconds, text):
    assert duration(seconds) == text


def test_a_number_has_its_noun():
    assert [plural(n, "asset") for n in (0, 1, 2)] == ["0 assets", "1 asset", "2 assets"]


def test_control_characters_are_not_printed():
    assert printable("a\x1b[2J\rb\n肺炎\x07") == "a?[2J?b\n肺炎?"


def test_progress_without_a_terminal_is_rare_and_rarer_in_long_steps():
    screen = PlainScreen(Console(file=io.StringIO(), width=20))
    ten_hours = range(0, 36_000, 5)
    for at in ten_hours:
        screen.progress("lora_weights", f"step {at}/36000: loss 0.1", at, 36_000, 1e9 + at)
    lines = written(screen.console)
    assert lines[0] == "  lora_weights: step 30/36000: loss 0.1", "not wrapped to the width"
    assert 40 <= len(lines) <= 80


def test_assets_that_are_up_to_date_share_a_line():
    screen = PlainScreen(Console(file=io.StringIO()))
    for asset in ("raw_npz", "data_faults"):
        screen.up_to_date(asset)
    screen.line("good", "lora_subset", "400 images")
    screen.up_to_date("report")
    screen.close()
    assert written(screen.console) == [
        "✓ up to date: raw_npz, data_faults",
        "✓ lora_subset: 400 images",
        "✓ up to date: report",
    ]


@pytest.mark.parametrize("width", [40, 100])
def test_a_long_line_wraps_below_its_own_text(width):
    screen = LiveScreen(Console(file=io.StringIO(), width=width), ["lora_subset", "raw_npz"])
    screen.line("warning", "raw_npz", "肺炎 " * 60)
    screen.close()
    lines = written(screen.console)
    assert lines[0].startswith("! raw_npz ")
    indent = 2 if width == 40 else 14
    wrapped = [line for line in lines[1:] if line.strip()]
    assert wrapped
    assert all(line.startswith(" " * indent) and line[indent] != " " for line in wrapped)


def test_only_a_terminal_that_knows_control_sequences_has_live_bars(monkeypatch):
    controller, terminal = pty.openpty()
    with os.fdopen(controller, "wb"), os.fdopen(terminal, "w") as file:
        console = Console(file=file)
        for term, moves in {"xterm-256color": True, "dumb": False, "unknown": False, "": False}.items():
            monkeypatch.setenv("TERM", term)
            assert can_move_cursor(console) == moves, term
        monkeypatch.delenv("TERM")
        assert not can_move_cursor(console)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not can_move_cursor(Console(file=io.StringIO())), "colours in a log of CI, but no bars"


def test_every_asset_has_a_one_line_result():
    assert RESULTS.keys() == STAGES.keys()


def test_a_result_leaves_out_what_is_unknown():
    assert one_line_result("lora_subset", {"n": 1400, "purity": 0.998}) == (
        "1,400 images with captions · purity 99.8%"
    )
    assert one_line_result("lora_subset", {"n": "many", "purity": 1.0}) == "purity 100.0%"
    assert one_line_result("of_a_user", {"n": 2}) == ""


def test_results_of_a_real_run_are_phrases(finished):
    for asset in STAGES:
        manifest = Store(finished.root).manifest(asset)
        assert manifest
        parts = one_line_result(asset, manifest.metadata).split(" · ")
        assert all(len(part.split()) > 1 for part in parts), (asset, parts)
