"""From the entries of Dagster's event log to the lines of the terminal."""

import logging
import re
from collections.abc import Callable, Sequence

import dagster as dg

from vdm_pipeline.defs.console.failures import Failure, failure_of
from vdm_pipeline.defs.console.screen import Screen, duration

Event = dg.DagsterEventType
CHECKS = "_checks"
"""Ends the names of the steps that run an asset's checks."""
COUNT = re.compile(r"(\d+)/(\d+)")
"""How long work reports its progress, as in ``step 50/700: loss 0.1``."""


def asset_of(step: str) -> str:
    """The asset that a step computes or checks."""
    return step.removesuffix(CHECKS)


class Story:
    """What happened in a run so far. It receives every entry of the run's event log once, in order."""

    def __init__(self, screen: Screen, steps: Sequence[str]) -> None:
        """``steps`` are those that the run may execute."""
        self.screen, self.steps = screen, steps
        self.started: set[str] = set()
        self.computed: list[str] = []
        self.skipped: list[str] = []
        self.passed: dict[str, int] = {}
        self.warnings = 0
        self.failed_checks: dict[str, str] = {}
        self.blocking_checks: dict[str, str] = {}
        """Sentences of the failed checks by name: of those that let the run continue, and that stopped it."""
        self.failures: list[Failure] = []
        self.display_failure: Failure | None = None
        self.report: str | None = None
        self._crashes: dict[str | None, str] = {}
        self._by_type: dict[Event, Callable[[dg.DagsterEvent], None]] = {
            Event.STEP_START: self._started,
            Event.ASSET_MATERIALIZATION: self._materialized,
            Event.ASSET_CHECK_EVALUATION: self._checked,
            Event.STEP_SUCCESS: self._ended,
            Event.STEP_FAILURE: self._failed,
            Event.RESOURCE_INIT_FAILURE: self._failed,
            Event.ENGINE_EVENT: self._engine_reported,
        }

    @property
    def not_computed(self) -> list[str]:
        """Assets that the run should compute, but did not start."""
        return [step for step in self.steps if step not in self.started and not step.endswith(CHECKS)]

    @property
    def run_failed(self) -> bool:
        """Whether a step failed, or a check stopped the run."""
        return bool(self.failures or self.blocking_checks)

    def tell(self, entry: dg.EventLogEntry) -> None:
        """Show one entry of the event log."""
        event = entry.dagster_event
        if event is None:
            self._logged(entry)
        elif event.event_type in self._by_type:
            self._by_type[event.event_type](event)

    def _logged(self, entry: dg.EventLogEntry) -> None:
        """A line that our code logged. Dagster's own lines are errors, and follow from failures."""
        if entry.level == logging.WARNING:
            self.warnings += 1
            self.screen.line("warning", asset_of(entry.step_key or ""), entry.user_message)
        elif entry.level == logging.INFO and entry.step_key:
            text = entry.user_message.removeprefix(f"{entry.step_key}: ")
            count = COUNT.search(text)
            done, total = (int(count[1]), int(count[2])) if count else (0, None)
            self.screen.progress(entry.step_key, text, done, total, entry.timestamp)

    def _started(self, event: dg.DagsterEvent) -> None:
        step = str(event.step_key)
        self.started.add(step)
        self.screen.start(step, asset_of(step), "checks" if step.endswith(CHECKS) else "")

    def _materialized(self, event: dg.DagsterEvent) -> None:
        materialization = event.step_materialization_data.materialization
        asset = materialization.asset_key.to_user_string()
        metadata = {key: value.value for key, value in materialization.metadata.items()}
        if asset == "report":
            self.report = f"{metadata['folder']}/index.html"
        if metadata["skipped"]:
            self.skipped.append(asset)
            self.screen.up_to_date(asset)
        else:
            self.computed.append(asset)
            parts = (str(metadata["result"]), duration(float(str(metadata["seconds"]))))
            self.screen.line("good", asset, " · ".join(part for part in parts if part))

    def _checked(self, event: dg.DagsterEvent) -> None:
        check = event.asset_check_evaluation_data
        asset = check.asset_key.to_user_string()
        line = f"{check.check_name}: {check.description}"
        if check.passed:
            self.passed[asset] = self.passed.get(asset, 0) + 1
        elif check.severity == dg.AssetCheckSeverity.WARN:
            self.warnings += 1
            self.screen.line("warning", asset, line)
        else:
            self.screen.line("bad", asset, line)
            failed = self.blocking_checks if check.blocking else self.failed_checks
            failed[f"{check.check_name} of {asset}"] = str(check.description)

    def _ended(self, event: dg.DagsterEvent) -> None:
        step = str(event.step_key)
        self.screen.finish(step)
        passed = self.passed.get(asset_of(step))
        if step.endswith(CHECKS) and passed:
            self.screen.passed(asset_of(step), passed)

    def _failed(self, event: dg.DagsterEvent) -> None:
        if event.step_key:
            self._ended(event)
        failure = failure_of(event, self._crashes.get(event.step_key))
        if failure and failure not in self.failures:  # Dagster reports some failures twice
            self.failures.append(failure)
            self.screen.line("bad", asset_of(failure.step), "failed")

    def _engine_reported(self, event: dg.DagsterEvent) -> None:
        if event.engine_event_data.error:
            self._crashes[event.step_key] = str(event.message)
