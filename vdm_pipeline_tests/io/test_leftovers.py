"""Temporary files of killed processes are removed; those of living ones stay."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vdm_pipeline.incremental.store import Store
from vdm_pipeline.io.atomic import remove_leftovers
from vdm_pipeline.stages.models.verified_folder import VerifiedFolder
from vdm_pipeline.stages.training.checkpoints import Checkpoints
from vdm_pipeline_tests.paths import ROOT

PREAMBLE = """
import os, signal, sys
from pathlib import Path
from vdm_pipeline.io import atomic
root = Path(sys.argv[1])
def pause(*given):
    print("ready", flush=True); signal.pause()
"""
BEFORE_RENAME = {
    "manifest": """
atomic.os.replace = pause
atomic.write_text(root / "results/.manifests/raw_npz.json", "{}")
""",
    "check results": """
from vdm_pipeline.incremental.check_results import write_check_results
atomic.os.replace = pause
write_check_results(root / "results/.manifests/raw_npz.checks.json", {})
""",
    "attempt": """
from vdm_pipeline.incremental.store import Store
atomic.os.replace = pause
Store(root).start_attempt("raw_npz", "state")
""",
    "test of write permission": """
from vdm_pipeline.incremental.store import Store
atomic.sync = pause
Store(root).assert_writable()
""",
    "image in staging": """
import numpy as np
from vdm_pipeline.io.images import write_png
atomic.os.replace = pause
write_png(root / "results/.staging/x/f/generated/gen_000.png", np.zeros((8, 8), np.uint8))
""",
    "latent": """
import torch
from vdm_pipeline.io.tensors import write_tensors
atomic.os.replace = pause
write_tensors(root / "results/.cache/ab/abc.safetensors", {"x": torch.zeros(2)}, {})
""",
    "archive": """
import numpy as np
from vdm_pipeline.stages.data.npz import write_npz
atomic.os.replace = pause
write_npz(root / "data/phantom_64.npz", {"train_images": np.zeros(3, np.uint8)})
""",
    "replaced folder": """
for name in ("new", "results/lora"):
    (root / name).mkdir(parents=True)
remove = atomic.remove_file_or_folder
atomic.remove_file_or_folder = pause
atomic.replace_path(root / "new", root / "results/lora")
""",
    "plots' font cache": """
folder = root / "results/.cache/matplotlib"
folder.mkdir(parents=True)
os.environ["MPLCONFIGDIR"] = str(folder)
from matplotlib.cbook import _lock_path
with _lock_path(folder / "fontlist.json"):
    pause()
""",
}
"""What a process does until it is about to rename its file, in a project folder."""


@contextmanager
def stopped(code: str, folder: Path) -> Iterator[subprocess.Popen]:
    """A process that runs ``code`` until it waits."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": str(folder)}
    command = [sys.executable, "-c", PREAMBLE + code, str(folder)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def names(folder: Path) -> set[str]:
    """Every file and folder but the lock, which is meant to stay."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")} - {"results/.lock"}


def start_a_run(root: Path) -> None:
    with Store(root).lock("run", print):
        pass


@pytest.mark.parametrize("kind", BEFORE_RENAME)
def test_the_next_run_removes_what_a_killed_run_left(tmp_path, kind):
    root = tmp_path.resolve()
    with stopped(BEFORE_RENAME[kind], root):
        pass
    left = {name for name in names(root) if not (root / name).is_dir()}
    start_a_run(root)
    assert {name for name in names(root) if (root / name).is_file()} == set()
    assert not any(name.endswith(".old") for name in names(root))
    assert bool(left) != (kind == "replaced folder"), "otherwise nothing was left to remove"


@pytest.mark.parametrize("kind", ["manifest", "attempt", "image in staging", "latent", "archive"])
def test_files_of_a_living_process_stay(tmp_path, kind):
    root = tmp_path.resolve()
    with stopped(BEFORE_RENAME[kind], root):
        (file,) = [path for path in root.rglob(".*") if ".part" in path.name]
        start_a_run(root)
        assert file.exists()


def test_an_old_folder_goes_back_if_the_new_one_never_arrived(tmp_path):
    code = """
for name in ("new", "lora"):
    (root / name).mkdir()
    (root / name / name).touch()
replace = os.replace
atomic.os.replace = lambda a, b: replace(a, b) if "lora" in str(a) else pause()
atomic.replace_path(root / "new", root / "lora")
"""
    with stopped(code, tmp_path):
        pass
    assert not (tmp_path / "lora").exists()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == {"lora", "lora/lora", "new", "new/new"}


def test_a_record_and_a_conversion_in_the_models_cache(tmp_path):
    code = """
from vdm_pipeline.stages.models.verified_folder import VerifiedFolder
folder = VerifiedFolder(root / "model", ".record.json")
staging = root / ".model.00000000.part"
for path in (folder.path, staging):
    path.mkdir()
    (path / "weights").touch()
atomic.os.replace = pause
folder.write_record()
"""
    with stopped(code, tmp_path):
        pass
    assert len(names(tmp_path)) == 5
    with VerifiedFolder(tmp_path / "model", ".record.json").lock(print, ""):
        assert names(tmp_path) == {"model", "model/weights", ".model.lock"}


def test_a_checkpoint_without_its_final_name(tmp_path):
    code = """
import torch
from vdm_pipeline.stages.training.checkpoints import Checkpoints
Path.rename = pause
Checkpoints(root, print).save(2, {"x": torch.zeros(1)})
"""
    with stopped(code, tmp_path):
        pass
    assert names(tmp_path) == {"new.safetensors"}
    Checkpoints(tmp_path, print)
    assert names(tmp_path) == set()


def test_files_with_other_names_stay(tmp_path):
    kept = {".a.part", ".a.1234567.part", "a.12345678.part", ".gitkeep", "x.npz.part", ".a.12345678.part.b.c"}
    for name in kept:
        (tmp_path / name).touch()
    (tmp_path / ".a.12345678.part.b").touch()
    (tmp_path / ".link.12345678.part").symlink_to(tmp_path / ".gitkeep")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == kept
