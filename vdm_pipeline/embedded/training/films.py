"""Phantoms rendered ahead: worker processes write them to files, in chunks, while a model trains."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.io.atomic import atomic_file, remove_leftovers
from vdm_pipeline.stages.data.phantom.film import CHUNK, render_in_chunks

SIZE = 64
SEED = 20_260_101
"""No profile renders these phantoms, as seeds of profiles are below 1,000,000."""
FILMS_PER_FILE = 1000
"""4 MB, about 5 s of one core."""


class Films:
    """Films 0, 1, 2 ... of each class, in the files of a folder, whichever worker renders them and when."""

    def __init__(self, folder: Path, pool: ProcessPoolExecutor) -> None:
        """Remove partly written files of killed workers; complete files are kept."""
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        self.folder, self.pool = folder, pool
        self._files: dict[Path, Future[None] | None] = {}

    def render_ahead(self, count: int, *, pneumonia: bool) -> list[Path]:
        """Let the workers render the first ``count`` films of a class; return their files at once."""
        paths = []
        for first in range(0, count, FILMS_PER_FILE):
            n = min(FILMS_PER_FILE, count - first)
            path = self.folder / f"{'pneumonia' if pneumonia else 'normal'}_{first:08d}_{n}.npy"
            if path not in self._files:
                is_missing = not path.exists()
                self._files[path] = (
                    self.pool.submit(write_films, path, first, n, pneumonia) if is_missing else None
                )
            paths.append(path)
        return paths

    def load(self, count: int, *, pneumonia: bool) -> NDArray[np.uint8]:
        """The first ``count`` films of a class, ``[count, 64, 64]`` uint8, as soon as they are rendered."""
        paths = self.render_ahead(count, pneumonia=pneumonia)
        for path in paths:
            rendering = self._files[path]
            if rendering:
                rendering.result()
        return np.concatenate([np.load(path, mmap_mode="r", allow_pickle=False) for path in paths])


@contextmanager
def open_films(folder: Path) -> Iterator[Films]:
    """The films in ``folder``. At the end, chunks that no worker has begun are given up."""
    workers = max(1, (os.cpu_count() or 1) - 1)  # one core is left for the training
    spawn = multiprocessing.get_context("spawn")  # a fork would share the parent's GPU and threads
    pool = ProcessPoolExecutor(workers, spawn, initializer=_start_worker)
    try:
        yield Films(folder, pool)
    finally:
        pool.shutdown(cancel_futures=True)


def write_films(path: Path, first: int, count: int, pneumonia: bool) -> None:
    """Render films ``first`` to ``first + count`` of a class on one core, and write them atomically."""
    indices = np.arange(first, first + count)
    chunks = render_in_chunks(SEED, indices, np.full(count, pneumonia), SIZE, chunk_size=CHUNK)
    films = np.concatenate(list(chunks))
    with atomic_file(path) as temporary:
        np.save(temporary, films)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it even if it is killed: the pool's workers would stay."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)
