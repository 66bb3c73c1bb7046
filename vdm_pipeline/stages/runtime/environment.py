"""Hide the environment variables of other launchers, which contradict the profile.

A shell of MPI or torchrun, or of ``accelerate config``, describes processes, devices, precision or
compilation. Accelerate obeys these variables: one process then waits for others that nobody starts, or
computes otherwise than the profile says. Here the profile decides, and `launch_workers` starts all processes.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vdm_pipeline.errors import PipelineError

PROCESS_VARIABLES = {
    "GROUP_RANK",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "MPI_LOCALNRANKS",
    "MPI_LOCALRANKID",
    "NODE_RANK",
    "RANK",
    "ROLE_RANK",
    "ROLE_WORLD_SIZE",
    "WORLD_SIZE",
}
"""Read by torch.distributed and accelerate."""
LIBRARY_VARIABLES = {
    "FORK_LAUNCHED",
    "USE_TF",
    "USE_TORCH",
    "USE_TORCH_XLA",
    "XLA_DOWNCAST_BF16",
    "XLA_USE_BF16",
}
"""``USE_TF=1`` and ``USE_TORCH=0`` hide torch from diffusers; the others are read by accelerate."""
PREFIXES = (
    "ACCELERATE_",
    "DEEPSPEED_",
    "FSDP_",
    "MEGATRON_LM_",
    "MV2_COMM_",
    "OMPI_COMM_",
    "PARALLELISM_CONFIG_",
    "PMIX_",
    "PMI_",
    "TORCHELASTIC_",
)
"""Accelerate and its plugins, the MPI libraries, and torchrun."""


def is_launcher_variable(name: str) -> bool:
    """Whether a launcher sets ``name`` to describe its processes, or a library to configure a launch."""
    return name in PROCESS_VARIABLES | LIBRARY_VARIABLES or name.startswith(PREFIXES)


@contextmanager
def launchers_hidden() -> Iterator[None]:
    """Remove launcher variables from ``os.environ``, also for child processes; restore them at the end."""
    hidden = {name: value for name, value in os.environ.items() if is_launcher_variable(name)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def check_docstrings_exist(optimize: int = sys.flags.optimize) -> None:
    """Raise `PipelineError` under ``python -OO``: transformers parses docstrings when imported."""
    if optimize >= 2:
        raise PipelineError(
            "PYTHONOPTIMIZE=2 (python -OO) removes the docstrings that transformers needs; "
            "unset PYTHONOPTIMIZE."
        )
