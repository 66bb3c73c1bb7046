"""Digests of parts of files: equal if and only if the covered content is equal."""

import numpy as np
import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.content import digest_of_fields, digest_without

FILES = {
    "a.csv": ["id,label,p\nx,1,.5\n", "p,id,label\n.7,x,1\n", "id,label,p\nx,2,.5\n"],
    "a.jsonl": ['{"id": "x", "label": 1, "p": 5}\n', '{"label": 1, "id": "x"}\n', '{"id": "x"}\n'],
}
"""Three contents by name: the second differs from the first in ``p`` and in order only."""


@pytest.mark.parametrize("name", FILES)
def test_only_the_fields_count(tmp_path, name):
    digests = []
    for content in FILES[name]:
        (tmp_path / name).write_text(content)
        digests.append(digest_of_fields(tmp_path / name, ("id", "label")))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("name", FILES)
def test_all_but_the_fields_count(tmp_path, name):
    digests = []
    for content in FILES[name]:
        (tmp_path / name).write_text(content)
        digests.append(digest_without(tmp_path / name, ("p",)))
    assert digests[0] == digests[1] != digests[2]


def test_rows_count_in_their_order_and_number(tmp_path):
    path, digests = tmp_path / "a.csv", set()
    for rows in ("x\ny\n", "y\nx\n", "x\ny\ny\n", "x\n", ""):
        path.write_text("id\n" + rows)
        digests.add(digest_of_fields(path, ("id",)))
    assert len(digests) == 5


def test_keys_of_an_object(tmp_path):
    path, digests = tmp_path / "a.json", []
    for content in ('{"a": {"b": 1}, "s": 3}', '{"s": 4, "a": {"b": 1}}', '{"a": {"b": 2}, "s": 3}'):
        path.write_text(content)
        digests.append(digest_without(path, ("s",)))
    assert digests[0] == digests[1] != digests[2]


def test_arrays_whatever_their_compression_and_neighbours(tmp_path):
    path, x, y = tmp_path / "a.npz", np.arange(6), np.arange(4)
    np.savez(path, x=x, y=y)
    first = digest_of_fields(path, ("x",))
    np.savez_compressed(path, y=y + 1, x=x)
    assert digest_of_fields(path, ("x",)) == first
    for other in (x[::-1], x.reshape(2, 3), x.astype(np.int32)):
        np.savez(path, x=other)
        assert digest_of_fields(path, ("x",)) != first


def test_sections_of_a_page(tmp_path):
    path, digests = tmp_path / "a.html", []
    for page in ("a{}b", "a{}b", "c{}b", "a{}d"):
        path.write_text(page.format(f'<section class="cost">\n{len(digests)}</section>'))
        digests.append(digest_without(path, ("cost",)))
    assert digests[0] == digests[1] and len(set(digests)) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.html", b"no section", "has 0 sections 'cost' instead of one"),
        ("a.json", b"{", "is not valid JSON"),
        ("a.jsonl", b"[]", "is not a JSON object"),
        ("a.csv", b"\xff", "cannot be read"),
    ],
)
def test_damage_is_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PipelineError, match=message):
        digest_without(tmp_path / name, ("cost",))
