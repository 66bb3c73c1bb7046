"""Bad archives in data/: `raw_npz` raises one sentence, and keeps the file as it is."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vdm_pipeline.settings import Data, Profile
from vdm_pipeline_tests.bad_inputs.case import Case, as_nobody, parametrize, snapshot
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
from vdm_pipeline_tests.defs.assets.graph import materialize
from vdm_pipeline_tests.profiles import shrink

DATA = {
    "dataset": "mine",
    "size": 28,
    "source": "file",
    "own": {"channels": 1, "sha256": "0" * 64, "licence": "CC0"},
}


def content(create: Callable[[], bytes]) -> Callable[[Path], object]:
    """A file with the content that ``create`` returns."""
    return lambda path: path.write_bytes(create())


def arrays(**changes: np.ndarray) -> Callable[[Path], object]:
    """An archive with some arrays replaced."""
    return lambda path: path.write_bytes(saved(**changes))


def nothing(path: Path) -> None:
    """No file."""


def file_instead_of_folder(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("mine")


def folder_outside(path: Path) -> None:
    path.parent.rmdir()
    path.parent.symlink_to("/tmp")


FILES = [
    Case("archive that is missing", "mine.npz", nothing),
    Case("empty archive", "mine.npz", content(bytes)),
    Case("archive cut short", "mine.npz", content(lambda: saved()[:-300])),
    Case(
        "error page under the archive's name",
        "mine.npz",
        content(lambda: b"<html>404 Not Found</html>"),
    ),
    Case("another zip", "mine.npz", content(other_zip)),
    Case("archive without an array", "'val_labels'", content(lambda: without("val_labels"))),
    Case("archive with a further array", "'weights'", arrays(weights=np.zeros(3))),
    Case("pickled objects as labels", "val_labels", arrays(val_labels=np.array([{}, 1, 2], object))),
    Case("zip bomb", "train_images", content(bomb)),
    Case("members that overlap", "mine.npz", content(overlapping)),
    Case("encrypted archive", "train_images", content(encrypted)),
    Case("bytes changed inside", "mine.npz", content(changed_inside)),
]
ARRAYS = [
    Case("images of floats", "val_images", arrays(val_images=GOOD["val_images"] / 255)),
    Case("labels with NaN", "val_labels", arrays(val_labels=np.full((3, 1), np.nan))),
    Case(
        "colour images instead of grey ones",
        "train_images",
        arrays(train_images=np.zeros((6, 28, 28, 3), np.uint8)),
    ),
    Case("images of another size", "test_images", arrays(test_images=np.zeros((4, 64, 64), np.uint8))),
    Case("images that are not square", "test_images", arrays(test_images=np.zeros((4, 20, 28), np.uint8))),
    Case("fewer labels than images", "val_labels", arrays(val_labels=GOOD["val_labels"][:2])),
    Case("several labels for an image", "test_labels", arrays(test_labels=np.zeros((4, 14), np.uint8))),
    Case("label of an unknown class", "val_labels", arrays(val_labels=np.array([0, 1, 2], np.uint8))),
    Case(
        "split without images",
        "split val",
        arrays(val_images=GOOD["val_images"][:0], val_labels=GOOD["val_labels"][:0]),
    ),
    Case("train split without one class", "train", arrays(train_labels=GOOD["train_labels"] * 0)),
    Case("archive with another sha256", "data.own.sha256", arrays()),
]
PLACES = [
    Case("folder instead of the archive", "mine.npz", Path.mkdir),
    Case("pipe instead of the archive", "mine.npz", os.mkfifo),
    Case(
        "link to nothing instead of the archive",
        "mine.npz",
        lambda path: path.symlink_to("/nowhere/a.npz"),
    ),
    Case("file instead of data/", "data", file_instead_of_folder),
]
UNREADABLE = Case("archive that you may not read", "mine.npz", arrays())
ONE_CLASS = Case("share of pneumonia that leaves a class out", "data.pneumonia_share", nothing)
PHANTOMS = [
    Case("folder instead of the rendered archive", "phantom_64.npz", Path.mkdir),
    Case("pipe instead of the rendered archive", "phantom_64.npz", os.mkfifo),
    ONE_CLASS,
    Case("data/ that is a link out of the project", "data", folder_outside),
]
OWN = [*FILES, *ARRAYS, *PLACES]
CASES = [*OWN, UNREADABLE, *PHANTOMS]


def with_own_archive(profile: Profile) -> Profile:
    return profile.model_copy(update={"data": Data.model_validate(DATA)})


def check_rejected(sentences, case: Case, profile: Profile, root: Path) -> None:
    """The run fails with the case's sentence, and changes nothing."""
    before = snapshot(root)
    sentences.check_run(case, materialize(profile, root, ["raw_npz"]), root)
    assert snapshot(root) == before


@parametrize(OWN)
def test_bad_archive_is_rejected_and_kept(case, tiny, project, sentences):
    case.make(project / "data/mine.npz")
    check_rejected(sentences, case, with_own_archive(tiny), project)


@parametrize(PHANTOMS)
def test_obstacle_of_the_rendered_archive_is_rejected_and_kept(case, tiny, project, sentences):
    case.make(project / "data/phantom_64.npz")
    profile = shrink(tiny, data={"pneumonia_share": 0.0}) if case is ONE_CLASS else tiny
    check_rejected(sentences, case, profile, project)


def test_archive_without_permission_is_rejected(tiny, project, open_folder, sentences):
    assert materialize(tiny, project, ["raw_npz"]).success  # imports everything while root may read it
    (open_folder / "data").mkdir()
    path = open_folder / "data/mine.npz"
    UNREADABLE.make(path)
    path.chmod(0)
    with as_nobody():
        result = materialize(with_own_archive(tiny), open_folder, ["raw_npz"])
    sentences.check_run(UNREADABLE, result, open_folder)
    assert path.read_bytes() == saved()


def test_link_to_an_archive_elsewhere_is_read_and_kept(tiny, project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a.npz"
    assert materialize(tiny, project, ["raw_npz"]).success
    (project / "data/phantom_64.npz").rename(elsewhere)
    (project / "data/phantom_64.npz").symlink_to(elsewhere)
    before = snapshot(project / "data"), elsewhere.read_bytes()
    assert materialize(tiny, project, ["raw_npz"]).success
    assert (snapshot(project / "data"), elsewhere.read_bytes()) == before
