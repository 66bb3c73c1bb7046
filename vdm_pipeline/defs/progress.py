"""Progress of long work in Dagster's log."""

import dagster as dg

from vdm_pipeline.io.progress import Throttle


class ProgressLogger:
    """Logs ``done/total`` at most every ``seconds``, and at the end."""

    def __init__(self, context: dg.AssetExecutionContext, label: str, seconds: float = 5.0) -> None:
        self._log, self._label, self._throttle = context.log.info, label, Throttle(seconds)

    def __call__(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` units are done."""
        if self._throttle.due(done=done >= total):
            self._log(f"{self._label}: {done}/{total}")
