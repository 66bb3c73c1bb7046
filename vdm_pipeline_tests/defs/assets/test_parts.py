"""No asset reads more than the parts that `vdm_pipeline.graph` lists: everything else is scrambled here."""

import csv
import io
import json
import shutil
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from vdm_pipeline.graph import STAGES, Part, code_version, parts, parts_read
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.io.images import read_png
from vdm_pipeline.stages.data.npz import write_npz
from vdm_pipeline_tests.defs.assets.graph import computed, error_message, materialize
from vdm_pipeline_tests.defs.assets.project import ProjectFolder, describe_archive


def scramble(finished: ProjectFolder, source: str, names: tuple[str, ...]) -> None:
    """Change all that these parts of an asset do not cover; its manifest still calls the files intact."""
    store = Store(finished.root)
    manifest = store.manifest(source)
    assert manifest
    files = {}
    for name in manifest.files:
        covering = [parts(source)[part] for part in names]
        selected = [part for part in covering if _is_under(name, source, part, finished)]
        path = finished.root / name
        if any(PurePosixPath(name).match(pattern) for part in selected for pattern in part.files):
            pass
        elif kept := [part for part in selected if _patterns(part, name)]:
            _change_other_fields(path, kept, name)
        elif path.suffix == ".png" and "pixels" in names:
            Image.fromarray(read_png(path.parent, path.name)).save(path, compress_level=1)
        elif path in Project(finished.profile, store).paths(source).values():
            path.write_bytes(b"scrambled")  # an output has to exist
        else:
            path.unlink()
            continue
        files |= store.hashes([name])
    store.write_manifest(manifest.model_copy(update={"files": files, "seconds": 9.0, "peak_memory_mb": 9.0}))


def _is_under(name: str, source: str, part: Part, finished: ProjectFolder) -> bool:
    output = Project(finished.profile, Store(finished.root)).paths(source)[part.output]
    return (finished.root / name).is_relative_to(output)


def _patterns(part: Part, name: str) -> list[str]:
    return [pattern for pattern in {**part.fields, **part.without} if PurePosixPath(name).match(pattern)]


def _change_other_fields(path: Path, kept: list[Part], name: str) -> None:
    named = [(part, pattern) for part in kept for pattern in _patterns(part, name)]
    only = [part.fields[pattern] for part, pattern in named if pattern in part.fields]
    without = [part.without[pattern] for part, pattern in named if pattern in part.without]

    def is_free(field: str) -> bool:
        return not any(field in names for names in only) and all(field in names for names in without)

    if path.suffix == ".npz":
        _change_arrays(path, is_free)
    elif path.suffix == ".json":
        value = json.loads(path.read_text())
        path.write_text(json.dumps({key: {} if is_free(key) else inner for key, inner in value.items()}))
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(_changed(row, is_free)) + "\n" for row in rows))
    else:
        reader = csv.DictReader(io.StringIO(path.read_text()))
        rows = list(reader)
        text = io.StringIO()
        writer = csv.DictWriter(text, reader.fieldnames or (), lineterminator="\n")
        writer.writeheader()
        writer.writerows(_changed(row, is_free) for row in rows)
        path.write_text(text.getvalue())


def _changed(row: dict, is_free) -> dict:
    """Every free value becomes another one of its type."""
    return {
        key: value if not is_free(key) else "0.125" if isinstance(value, str) else 0.125
        for key, value in row.items()
    }


def _change_arrays(path: Path, is_free) -> None:
    with np.load(path) as old:
        arrays = {key: np.roll(old[key], 1, axis=0) if is_free(key) else old[key] for key in old}
    write_npz(path, arrays)


def _pin_the_archive(finished: ProjectFolder) -> None:
    """Pin the archive's new bytes, as if it had been computed under that pin."""
    store = Store(finished.root)
    manifest = store.manifest("raw_npz")
    assert manifest
    finished.change(data={"own": describe_archive(finished.archive)})
    current = {"code_version": code_version("raw_npz", finished.profile)}
    store.write_manifest(manifest.model_copy(update=current))


@pytest.mark.parametrize("asset", [asset for asset in STAGES if STAGES[asset].inputs])
def test_an_asset_computes_the_same_whatever_else_its_inputs_hold(finished, asset):
    store = Store(finished.root)
    before = store.manifest(asset)
    assert before
    shutil.rmtree(finished.results / ".cache")
    for source in STAGES[asset].inputs:
        scramble(finished, source, parts_read(asset, source))
    _pin_the_archive(finished)
    finished.monkeypatch.setenv("VDM_FORCE", asset)
    finished.monkeypatch.setattr(Project, "blocking_failures", lambda *_: [])  # of checks under another pin
    result = materialize(finished.profile, finished.root, [asset])
    assert computed(result) == {asset}, error_message(result)  # its checks read more
    after = store.manifest(asset)
    assert after and after.versions == before.versions


@pytest.mark.parametrize("asset", [asset for asset in STAGES if STAGES[asset].inputs])
def test_an_asset_opens_no_output_of_other_parts(finished, asset):
    project = Project(finished.profile, Store(finished.root))
    for source, handle in project.upstream(asset).items():
        read = {parts(source)[name].output for name in parts_read(asset, source)}
        assert set(handle.paths) == read and set(handle.versions) == set(parts_read(asset, source))
