"""Progress of long work in Dagster's log."""

import time

import dagster as dg


class ProgressLogger:
    """Progress into Dagster's log, at most every ``seconds`` and at the end."""

    def __init__(self, context: dg.AssetExecutionContext, what: str, seconds: float = 5.0) -> None:
        self.context, self.what, self.seconds, self.last = context, what, seconds, time.perf_counter()

    def __call__(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` are done."""
        if done >= total or time.perf_counter() - self.last >= self.seconds:
            self.context.log.info(f"{self.what}: {done}/{total}")
            self.last = time.perf_counter()
