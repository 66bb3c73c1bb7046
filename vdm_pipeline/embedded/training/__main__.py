"""Train the embedded models, and export them with model cards, measured figures and hashes.

It trains in bf16 on a GPU if there is one, else in fp32 on the CPU. Other cores render phantoms ahead. The
same command resumes where the last run stopped. To train a stage again, delete its folder in WORK_FOLDER and
those of the stages after it.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import EMBEDDED

STAGES = ("clip", "vae", "sd", "lcm")
PRECISIONS = ("bf16", "fp32")


def main(arguments: Sequence[str]) -> int:
    """Train, export and measure. Returns the exit status."""
    options = parse(arguments)
    from vdm_pipeline.embedded.training.stages import train_and_export

    try:
        train_and_export(options)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the same command resumes.", file=sys.stderr)
        return 130
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; a wrong one ends the process with one sentence."""
    parser = _parser()
    parser.add_argument(
        "--device", choices=("auto", "cuda", "mps", "cpu"), default="auto", help="default: auto, a GPU if any"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, help="default: bf16 on a GPU that has it, else fp32"
    )
    parser.add_argument(
        "--checkpoint-minutes", type=_minutes, default=3.0, metavar="MINUTES", help="default: 3"
    )
    return parser.parse_args(arguments)


def _parser() -> argparse.ArgumentParser:
    """The parser, with the options that decide the models."""
    parser = argparse.ArgumentParser(
        prog="python -m vdm_pipeline.embedded.training",
        usage="%(prog)s WORK_FOLDER [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("work", type=Path, metavar="WORK_FOLDER", help="for checkpoints and rendered films")
    parser.add_argument(
        "--only",
        choices=STAGES,
        nargs="+",
        default=STAGES,
        help="stages to train and export: the labeller, the autoencoder, the base (both are exported with "
        "the base) and its LCM-LoRA; default: all",
    )
    parser.add_argument(
        "--scale",
        type=_positive,
        default=1.0,
        help="factor of the number of steps and of films, such as 0.01 for a trial; default: 1",
    )
    parser.add_argument(
        "--export",
        type=Path,
        default=EMBEDDED,
        metavar="FOLDER",
        help="for the models; default: the package's folder, whose models are replaced",
    )
    parser.add_argument(
        "--real",
        type=Path,
        metavar="NPZ",
        help="pneumoniamnist.npz of 28 pixels, to measure the labeller on real X-rays too",
    )
    return parser


def _positive(text: str) -> float:
    value = _minutes(text)
    if value == 0:
        raise argparse.ArgumentTypeError("it is 0; give a number above 0")
    return value


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of at least 0")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
