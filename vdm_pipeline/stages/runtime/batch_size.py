"""As many images at a time as the GPU's memory holds: those asked for, and half of them whenever they do not fit, which is said."""

from collections.abc import Callable
from typing import TypeVar

import torch

from vdm_pipeline.errors import PipelineError

T = TypeVar("T")


class AdaptiveBatchSize:
    """How many images pass at a time, ``batch_size``; it only falls, so that what did not fit is not tried again and again."""

    def __init__(
        self, batch_size: int, log: Callable[[str], None], hint: str, *, may_halve: bool = True
    ) -> None:
        """``hint`` ends the sentence of the error; without ``may_halve``, as where several processes must agree, nothing is halved."""
        self.batch_size, self.log, self.hint, self.may_halve = batch_size, log, hint, may_halve

    def __call__(self, compute: Callable[[int], T]) -> T:
        """What ``compute`` gives for so many images at a time, as many as fit.

        Raises `PipelineError` if not even one does, or where nothing may be halved.
        """
        while True:
            try:
                return compute(self.batch_size)
            except RuntimeError as error:
                if not _is_short_of_memory(error):
                    raise
                if self.batch_size == 1 or not self.may_halve:
                    raise PipelineError(
                        f"{self.batch_size} images at a time do not fit the GPU's memory; {self.hint}."
                    ) from None
            self.batch_size //= (
                2  # here the frames that held the memory are gone, with the exception that kept them
            )
            torch.cuda.empty_cache()
            self.log(f"out of memory: going on with {self.batch_size} images at a time, to the same result")


def _is_short_of_memory(error: RuntimeError) -> bool:
    """Apple's MPS tells it in words alone."""
    return isinstance(error, torch.OutOfMemoryError) or str(error).startswith("MPS backend out of memory")
