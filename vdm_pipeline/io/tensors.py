"""Safetensors files with reproducible bytes: the same tensors and header texts give the same file."""

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
    """Write ``tensors`` with ``texts`` in the header, atomically.

    Raises ``OSError`` with its errno if the disk is full.
    """
    from safetensors.torch import save

    with atomic_file(path) as temporary:
        temporary.write_bytes(save(dict(tensors), metadata=dict(texts)))
        _sort_header(temporary)


@contextmanager
def translate_safetensors_errors(path: Path) -> Iterator[None]:
    """Raise an ``OSError`` with its errno instead of a ``SafetensorError`` that has the errno in its text."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        match = re.search(r"\(os error (\d+)\)", str(error))
        if match is None:
            raise
        number = int(match[1])
        raise OSError(number, os.strerror(number), str(path)) from None


def _sort_header(path: Path) -> None:
    """Sort the header, which the library writes in random order. Data offsets count from the header's end."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > length:
            raise ValueError(f"{path}: its header grew from {length} to {len(text)} bytes when it was sorted")
        file.seek(8)
        file.write(text.ljust(length))
