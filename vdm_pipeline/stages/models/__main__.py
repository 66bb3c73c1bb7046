"""Print the digest or the weight hashes for a model pin.

``python -m vdm_pipeline.stages.models PATH`` prints the sha256 of a local folder, ``... OWNER/NAME COMMIT``
the sha256 of each weight file of a hub repository.
"""

import sys
from pathlib import Path

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.hashing import folder_digest

USAGE = "python -m vdm_pipeline.stages.models PATH, or OWNER/NAME COMMIT"


def main(arguments: list[str]) -> int:
    """Print what the pin needs. Returns the exit status."""
    if len(arguments) == 2:
        return _print_weights(*arguments)
    if len(arguments) == 1 and Path(arguments[0]).is_dir():
        print(folder_digest(Path(arguments[0])))
        return 0
    if len(arguments) == 1:
        problem = f"{arguments[0]!r} is not a folder"
    else:
        problem = f"{len(arguments)} arguments were given"
    print(f"{problem}; name the folder of one model, or a hub id and its commit: {USAGE}", file=sys.stderr)
    return 2


def _print_weights(repository: str, revision: str) -> int:
    from vdm_pipeline.stages.models.hub import weight_hashes

    try:
        hashes = weight_hashes(repository, revision)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    for name, sha256 in hashes.items():
        print(f'"{name}" = "{sha256}"')
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
