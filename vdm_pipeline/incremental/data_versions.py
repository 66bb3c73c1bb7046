"""Data versions: a hash of each part of an asset, as `vdm_pipeline.graph` defines them."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from vdm_pipeline.graph import Part, parts
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.io.content import digest_of_fields, digest_without
from vdm_pipeline.io.manifest import data_version


def data_versions(
    store: Store, asset: str, outputs: Mapping[str, str], files: Mapping[str, str]
) -> dict[str, str]:
    """The data version of each part: sixteen hex digits, the same on every machine.

    ``outputs`` are paths by role, ``files`` the sha256 of every file under them. Only partly covered files
    are read again. Raises `PipelineError` if one of them is damaged.
    """
    versions = {}
    for name, part in parts(asset).items():
        output = outputs[part.output]
        under = {file: sha256 for file, sha256 in files.items() if f"{file}/".startswith(f"{output}/")}
        versions[name] = data_version(_covered(store, part, under))
    return versions


def _covered(store: Store, part: Part, files: Mapping[str, str]) -> dict[str, str]:
    """Digests of the content that the part covers, by file."""
    covered = {}
    for name, sha256 in files.items():
        path = PurePosixPath(name)
        if any(path.match(pattern) for pattern in part.files):
            covered[name] = sha256
        for pattern, fields in part.fields.items():
            if path.match(pattern):
                covered[name] = digest_of_fields(store.path(name), fields)
        for pattern, fields in part.without.items():
            if path.match(pattern):
                covered[name] = digest_without(store.path(name), fields)
    return covered
