"""Print what a model pin needs: ``python -m vdm_pipeline.stages.models PATH``, or ``OWNER/NAME COMMIT``."""

import sys
from pathlib import Path

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.hashing import folder_digest

USAGE = "python -m vdm_pipeline.stages.models PATH, or OWNER/NAME COMMIT"


def main(arguments: list[str]) -> int:
    """Print what a pin needs, of a folder or of a hub's repository at a commit; the exit status."""
    if len(arguments) == 2:
        return _print_weights(*arguments)
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        given = (
            repr(arguments[0]) + " is no folder"
            if len(arguments) == 1
            else f"{len(arguments)} arguments were given"
        )
        print(f"{given}; name the folder of one model, or a hub id and its commit: {USAGE}", file=sys.stderr)
        return 2
    print(folder_digest(Path(arguments[0])))
    return 0


def _print_weights(repository: str, revision: str) -> int:
    from vdm_pipeline.stages.models.hub import weights_at

    try:
        for name, digest in weights_at(repository, revision).items():
            print(f'"{name}" = "{digest}"')
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
