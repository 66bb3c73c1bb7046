"""CSV, JSON and JSON lines: round trips, and errors for damaged files."""

import json

import pandas as pd
import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.tables import read_json, read_rows, write_csv, write_json, write_rows

ROWS = [{"text": 'ä chest, "X"\n', "n": 1}, {"text": "", "n": None, "deep": {"a": [1.5]}}]


def test_csv_has_a_header_six_digits_and_the_same_bytes(tmp_path):
    frame = pd.DataFrame({"id": ["a,b", "c"], "p": [1 / 3, 1.0], "n": [1, 2]})
    write_csv(tmp_path / "a.csv", frame)
    write_csv(tmp_path / "b.csv", frame.copy())
    assert (tmp_path / "a.csv").read_bytes() == b'id,p,n\n"a,b",0.333333,1\nc,1,2\n'
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_json_round_trips(tmp_path):
    write_json(tmp_path / "x.json", ROWS)
    assert read_json(tmp_path / "x.json") == ROWS
    assert json.loads((tmp_path / "x.json").read_bytes()) == ROWS


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"a": float("-inf")}]])
def test_nan_and_infinity_are_not_written(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", value)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_rows(tmp_path / "x.jsonl", [{"a": value}])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1} x', b'"\xff"'])
def test_damaged_json(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=r"x\.json is not valid JSON"):
        read_json(path)


def test_rows_round_trip_with_one_per_line(tmp_path):
    write_rows(tmp_path / "x.jsonl", ROWS)
    assert read_rows(tmp_path / "x.jsonl") == ROWS
    assert (tmp_path / "x.jsonl").read_bytes().count(b"\n") == 2
    write_rows(tmp_path / "none.jsonl", [])
    assert read_rows(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("line_break", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c", "\r\n"])
def test_text_with_a_line_break_of_any_kind_stays_one_row(tmp_path, line_break):
    rows = [{"text": f"a{line_break}b"}, {"text": "c"}]
    write_rows(tmp_path / "x.jsonl", rows)
    assert read_rows(tmp_path / "x.jsonl") == rows


@pytest.mark.parametrize("line", [b"{", b'{"a": 1', b"", b'{"a": "\xff"}'])
def test_damaged_row_is_named_by_its_line(tmp_path, line):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    with pytest.raises(PipelineError, match=r"x\.jsonl line 2 is not valid JSON"):
        read_rows(path)


def test_file_with_an_empty_line_only_is_damaged(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b"\n")
    with pytest.raises(PipelineError, match=r"x\.jsonl line 1"):
        read_rows(tmp_path / "x.jsonl")


@pytest.mark.parametrize("row", [b"[1]", b'{"label": "a"}', b'{"label": "a", "text": 1}'])
def test_row_without_a_required_text(tmp_path, row):
    (tmp_path / "x.jsonl").write_bytes(b'{"label": "a", "text": "b"}\n' + row + b"\n")
    with pytest.raises(PipelineError, match=r"x\.jsonl line 2"):
        read_rows(tmp_path / "x.jsonl", ("label", "text"))
