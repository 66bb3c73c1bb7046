"""Obtain archives from each source: a file, a download, and rendered phantoms."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.stages.data.archive import obtain_archive, read_archive
from vdm_pipeline.stages.data.npz import read_comment, write_npz
from vdm_pipeline_tests.stages.data.archives import BODY, DOWNLOAD, FILE, NAMES, PHANTOM, ignore_log, put

pytestmark = pytest.mark.usefixtures("tinymnist")


def test_error_of_a_missing_file_has_three_fixes(tmp_path):
    with pytest.raises(ArchiveError, match=f"^{tmp_path}/tinymnist.npz is missing") as caught:
        obtain_archive(FILE, tmp_path, ignore_log)
    message = str(caught.value)
    assert "put the archive there" in message
    assert 'source = "download"' in message and "demo" in message


def test_phantoms_are_rendered_again_only_for_other_settings(tmp_path):
    lines: list[str] = []
    path = obtain_archive(PHANTOM, tmp_path, lines.append)
    first = read_archive(path, PHANTOM, NAMES)
    assert (first.status, first.dataset, first.n, path.name) == ("phantom", "phantom", 10, "phantom_32.npz")
    assert first.image_ids("train")[5] == "phantom_train_000005"
    assert lines

    lines.clear()
    assert obtain_archive(PHANTOM, tmp_path, lines.append) == path
    assert not lines

    other = PHANTOM.model_copy(update={"seed": 1})
    with pytest.raises(ArchiveError, match="data section; delete the file"):
        read_archive(path, other, NAMES)
    assert read_archive(obtain_archive(other, tmp_path, ignore_log), other, NAMES).sha256 != first.sha256
    assert read_archive(obtain_archive(PHANTOM, tmp_path, ignore_log), PHANTOM, NAMES).sha256 == first.sha256


def test_phantom_archive_must_have_the_configured_counts(tmp_path):
    path = obtain_archive(PHANTOM, tmp_path, ignore_log)
    fewer = dict(np.load(path)) | {
        "train_images": np.zeros((4, 32, 32), np.uint8),
        "train_labels": np.array([[0], [1], [0], [1]], np.uint8),
    }
    write_npz(path, fewer, comment=read_comment(path))
    with pytest.raises(ArchiveError, match=r"4 train \+ 2 val \+ 2 test phantoms instead of 6 train"):
        read_archive(path, PHANTOM, NAMES)


def test_damaged_phantom_archive_is_rendered_again(tmp_path):
    path = obtain_archive(PHANTOM, tmp_path, ignore_log)
    content = path.read_bytes()
    path.write_bytes(content[:-500])
    assert obtain_archive(PHANTOM, tmp_path, ignore_log).read_bytes() == content


def test_archive_is_downloaded_once_and_checked(tmp_path, tinymnist):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "tinymnist.npz").write_bytes(BODY)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder)) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        tinymnist["url"] = f"http://127.0.0.1:{server.server_port}/tinymnist.npz"
        path = obtain_archive(DOWNLOAD, tmp_path / "data", ignore_log)
        server.shutdown()
    assert path.read_bytes() == BODY
    assert read_archive(path, DOWNLOAD, NAMES).status == "official"
    assert obtain_archive(DOWNLOAD, tmp_path / "data", ignore_log) == path


def test_existing_file_of_another_md5_is_not_overwritten(tmp_path):
    path = put(tmp_path, b"mine")
    with pytest.raises(
        ArchiveError, match=r"official MD5 \w+ of the download; move it away, or set data\.source"
    ):
        obtain_archive(DOWNLOAD, tmp_path, ignore_log)
    assert path.read_bytes() == b"mine"
