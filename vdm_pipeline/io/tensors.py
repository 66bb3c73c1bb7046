"""Safetensors files that are the same bytes for the same tensors and the same header texts."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vdm_pipeline.io.atomic import atomic_file

if TYPE_CHECKING:
    import torch

LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
"""The file that diffusers' ``load_lora_weights`` looks for."""


def write_tensors(path: Path, tensors: Mapping[str, "torch.Tensor"], texts: Mapping[str, str]) -> None:
    """Write ``tensors`` with ``texts`` in the header, atomically. Raises ``OSError`` with its number if the disk is full."""
    from safetensors.torch import save

    with atomic_file(path) as temporary:
        temporary.write_bytes(save(dict(tensors), metadata=dict(texts)))
        _sort_header(temporary)


@contextmanager
def system_faults(path: Path) -> Iterator[None]:
    """Raise an ``OSError`` with its number in the place of the library's own, which tells it in its text alone."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        told = re.search(r"\(os error (\d+)\)", str(error))
        if told is None:
            raise
        raise OSError(int(told[1]), os.strerror(int(told[1])), str(path)) from None


def _sort_header(path: Path) -> None:
    """The library writes the header's texts in another order each time; the data's offsets count from the header's end."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > length:
            raise ValueError(f"{path}: its header grew from {length} to {len(text)} bytes when it was sorted")
        file.seek(8)
        file.write(text.ljust(length))
