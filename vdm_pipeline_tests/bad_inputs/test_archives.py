"""The archive in data/, by way of `raw_npz`: whatever stands there is used as it is, or is a sentence and stays."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vdm_pipeline.settings import Data, Profile
from vdm_pipeline_tests.bad_inputs.case import Case, as_nobody, check, each, snapshot
from vdm_pipeline_tests.bad_inputs.npz_files import (
    GOOD,
    bomb,
    changed_inside,
    encrypted,
    other_zip,
    overlapping,
    saved,
    without,
)
from vdm_pipeline_tests.conftest import shrink
from vdm_pipeline_tests.defs.assets.graph import materialize, sentence

OWN = {
    "dataset": "mine",
    "size": 28,
    "source": "file",
    "own": {"channels": 1, "sha256": "0" * 64, "licence": "CC0"},
}
HINT = "put an intact mine.npz there."
STANDS = "and the archive is to stand there; move it away."


def put(make: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(make()), None)[1]


CASES = [
    Case(
        "archive that is not there",
        "…mine.npz is missing; put the archive there, or use the demo profile (VDM_PROFILE=demo).",
        lambda path: None,
    ),
    Case("empty archive", f"…mine.npz: it is an empty file; {HINT}", put(bytes)),
    Case("archive cut short", f"…mine.npz: it is cut short; {HINT}", put(lambda: saved()[:-300])),
    Case(
        "page of an error under the archive's name",
        f"…mine.npz: it is no .npz file (a zip); {HINT}",
        put(lambda: b"<html>404 Not Found</html>"),
    ),
    Case(
        "other zip",
        f"…mine.npz: the array 'test_images', 'test_labels', 'train_images' and 3 more is missing from it; {HINT}",
        put(other_zip),
    ),
    Case(
        "archive without a member",
        f"…mine.npz: the array 'val_labels' is missing from it; {HINT}",
        put(lambda: without("val_labels")),
    ),
    Case(
        "archive with a further member",
        f"…mine.npz: it holds 'weights', which does not belong there; {HINT}",
        put(lambda: saved(weights=np.zeros(3))),
    ),
    Case(
        "pickled objects for labels",
        f"…mine.npz: val_labels holds pickled Python objects, which are never loaded; {HINT}",
        put(lambda: saved(val_labels=np.array([{}, 1, 2], object))),
    ),
    Case(
        "zip bomb",
        f"…mine.npz: train_images claims [6000000, 28, 28] of uint8, … bytes, but the zip declares …; {HINT}",
        put(bomb),
    ),
    Case(
        "members that overlap",
        f"…mine.npz: its members overlap or are longer than the file, a zip bomb or a file cut short; {HINT}",
        put(overlapping),
    ),
    Case("encrypted archive", f"…mine.npz: train_images.npy is encrypted; {HINT}", put(encrypted)),
    Case("bytes changed inside", f"…mine.npz: it is damaged (…); {HINT}", put(changed_inside)),
    Case(
        "images of floats",
        f"…mine.npz: val_images is float64, not uint8; {HINT}",
        put(lambda: saved(val_images=GOOD["val_images"] / 255)),
    ),
    Case(
        "labels with NaN",
        f"…mine.npz: val_labels is float64, not an integer type; {HINT}",
        put(lambda: saved(val_labels=np.full((3, 1), np.nan))),
    ),
    Case(
        "colour where grey is expected",
        f"…mine.npz: train_images has shape [6, 28, 28, 3], not [n, 28, 28]; {HINT}",
        put(lambda: saved(train_images=np.zeros((6, 28, 28, 3), np.uint8))),
    ),
    Case(
        "images of another size",
        f"…mine.npz: test_images has shape [4, 64, 64], not [n, 28, 28]; {HINT}",
        put(lambda: saved(test_images=np.zeros((4, 64, 64), np.uint8))),
    ),
    Case(
        "fewer labels than images",
        f"…mine.npz: val_labels has shape [2, 1] for 3 images, not one label an image; {HINT}",
        put(lambda: saved(val_labels=GOOD["val_labels"][:2])),
    ),
    Case(
        "several labels an image",
        f"…mine.npz: test_labels has shape [4, 14] for 4 images, not one label an image; {HINT}",
        put(lambda: saved(test_labels=np.zeros((4, 14), np.uint8))),
    ),
    Case(
        "label of a class that there is none of",
        f"…mine.npz: val_labels runs from 0 to 2, not within 0 to 1; {HINT}",
        put(lambda: saved(val_labels=np.array([0, 1, 2], np.uint8))),
    ),
    Case(
        "split without images",
        f"…mine.npz: the split val is empty; {HINT}",
        put(lambda: saved(val_images=GOOD["val_images"][:0], val_labels=GOOD["val_labels"][:0])),
    ),
    Case(
        "class that train lacks",
        f"…mine.npz: train holds no image of class pneumonia, so there is nothing to tell apart; {HINT}",
        put(lambda: saved(train_labels=GOOD["train_labels"] * 0)),
    ),
    Case(
        "archive of another sha256",
        f"…mine.npz: its sha256 is … and not data.own.sha256 = {'0' * 64}; put the right file there, or, if this is the one you mean, "
        "write its sha256 into the profile.",
        put(saved),
    ),
    Case("folder in the archive's place", f"…mine.npz is a folder, {STANDS}", Path.mkdir),
    Case("pipe in the archive's place", f"…mine.npz is a pipe or a device, {STANDS}", os.mkfifo),
    Case(
        "link to nothing in the archive's place",
        f"…mine.npz is a link to '/nowhere/a.npz', which is not there, {STANDS}",
        lambda path: path.symlink_to("/nowhere/a.npz"),
    ),
    Case(
        "file in the place of data/",
        "…data is no folder, and the archive is to stand in it; move it away.",
        lambda path: (path.parent.rmdir(), path.parent.write_text("mine"))[0],
    ),
]
UNREADABLE = Case(
    "archive without permission to read",
    f"…mine.npz: it cannot be read (PermissionError: [Errno 13] Permission denied: '…mine.npz'); {HINT}",
    put(saved),
)
PHANTOMS = [
    Case("folder in the place of the rendered archive", f"…phantom_64.npz is a folder, {STANDS}", Path.mkdir),
    Case(
        "pipe in the place of the rendered archive",
        f"…phantom_64.npz is a pipe or a device, {STANDS}",
        os.mkfifo,
    ),
    Case(
        "share of pneumonia that leaves a class out",
        "…phantom_64.npz: data.pneumonia_share = 0.0 of data.train = 80 phantoms leaves train without a class; set a share between "
        "0 and 1 and enough images.",
        lambda path: None,
    ),
    Case(
        "data/ that is a link out of the project",
        "…/data is a link that leads out of the project folder; move it away, or put the folder itself there.",
        lambda path: (path.parent.rmdir(), path.parent.symlink_to("/tmp"))[0],
    ),
]
ALL = [*CASES, UNREADABLE, *PHANTOMS]


def owned(profile: Profile) -> Profile:
    return profile.model_copy(update={"data": Data.model_validate(OWN)})


def refused(profile: Profile, root: Path, case: Case) -> None:
    """One sentence, and everything as it was."""
    before = snapshot(root)
    result = materialize(profile, root, ["raw_npz"])
    assert not result.success
    check(case, sentence(result))
    assert snapshot(root) == before


@each(CASES)
def test_a_bad_archive_is_a_sentence_and_stays(case, tiny, project):
    case.make(project / "data/mine.npz")
    refused(owned(tiny), project, case)


@each(PHANTOMS)
def test_what_is_in_the_way_of_phantoms_is_a_sentence_and_stays(case, tiny, project):
    case.make(project / "data/phantom_64.npz")
    refused(shrink(tiny, data={"pneumonia_share": 0.0}) if "share" in case.title else tiny, project, case)


def test_an_archive_without_permission_is_a_sentence(tiny, project, open_folder):
    assert materialize(tiny, project, ["raw_npz"]).success  # all is imported while that is allowed
    (open_folder / "data").mkdir()
    path = open_folder / "data/mine.npz"
    UNREADABLE.make(path)
    path.chmod(0)
    with as_nobody():
        result = materialize(owned(tiny), open_folder, ["raw_npz"])
    check(UNREADABLE, sentence(result))
    assert path.read_bytes() == saved()


def test_a_link_to_an_archive_elsewhere_is_read_and_stays(tiny, project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a.npz"
    assert materialize(tiny, project, ["raw_npz"]).success
    (project / "data/phantom_64.npz").rename(elsewhere)
    (project / "data/phantom_64.npz").symlink_to(elsewhere)
    before = snapshot(project / "data"), elsewhere.read_bytes()
    assert materialize(tiny, project, ["raw_npz"]).success
    assert (snapshot(project / "data"), elsewhere.read_bytes()) == before
