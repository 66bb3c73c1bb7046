"""The number of images that pass at a time: as configured, halved when they do not fit the GPU's memory."""

from collections.abc import Callable
from typing import TypeVar

import torch

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.progress import Log

T = TypeVar("T")


class AdaptiveBatchSize:
    """Calls a function with a batch size that fits.

    ``batch_size`` never grows again, so that a size that did not fit is not tried twice.
    """

    def __init__(self, batch_size: int, log: Log, hint: str, *, may_halve: bool = True) -> None:
        """``hint`` ends the error message. Without ``may_halve``, out of memory is an error at once."""
        self.batch_size, self.log, self.hint, self.may_halve = batch_size, log, hint, may_halve

    def __call__(self, compute: Callable[[int], T]) -> T:
        """Return ``compute(batch_size)`` for the largest size that fits.

        Raises `PipelineError` if a single image does not fit, or if the size may not be halved.
        """
        while True:
            try:
                return compute(self.batch_size)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                if self.batch_size == 1 or not self.may_halve:
                    raise PipelineError(
                        f"Batches of {self.batch_size} images do not fit the GPU's memory; {self.hint}."
                    ) from None
            # outside the except block, as the exception keeps the frames that hold the memory alive
            self.batch_size //= 2
            torch.cuda.empty_cache()
            self.log(f"out of memory: continuing with batches of {self.batch_size} images")


def _is_out_of_memory(error: RuntimeError) -> bool:
    """MPS reports it only in the message."""
    return isinstance(error, torch.OutOfMemoryError) or str(error).startswith("MPS backend out of memory")
