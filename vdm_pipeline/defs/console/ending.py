"""The last lines of a run: what was done, what failed, where the report is, and what to do next."""

from vdm_pipeline.defs.console.failures import Failure
from vdm_pipeline.defs.console.screen import Screen, duration, plural
from vdm_pipeline.defs.console.story import Story, asset_of
from vdm_pipeline.graph import materialize_command

AGAIN = "run the same command again: finished assets are kept, and training resumes."


def show_interruption(screen: Screen) -> None:
    """One line after Ctrl-C, or after "Terminate" in the UI."""
    screen.text(f"Interrupted; {AGAIN}", "yellow")


def show_failures(screen: Screen, story: Story) -> None:
    """Why the run failed, the frames of a bug, and the assets that were not computed."""
    _show_failed_checks(screen, story)
    for check, sentence in story.blocking_checks.items():
        screen.text(f"Check {check} stopped the run: {sentence}.", "bold red")
    for failure in story.failures:
        screen.text(f"{asset_of(failure.step)} failed: {failure.sentence}", "bold red")
        _show_frames(screen, failure)
    if story.not_computed:
        screen.text(f"Not computed: {', '.join(story.not_computed)}.")
    screen.text(f"Fix the cause, then {AGAIN}")


def show_display_failure(screen: Screen, failure: Failure) -> None:
    """What kept the run from being shown; the run itself continued."""
    screen.text(f"The run cannot be shown here: {failure.sentence}", "bold red")
    _show_frames(screen, failure)


def show_success(screen: Screen, story: Story, seconds: float) -> None:
    """What was done, which checks failed, where the report is, and what to do next."""
    done = plural(len(story.computed), "asset") + " computed" if story.computed else "Nothing to do"
    facts = [
        done,
        f"{len(story.skipped)} up to date" if story.skipped else "",
        f"{plural(sum(story.passed.values()), 'check')} passed" if story.passed else "",
        plural(story.warnings, "warning") if story.warnings else "",
        duration(seconds),
    ]
    screen.text(" · ".join(fact for fact in facts if fact), "bold")
    _show_failed_checks(screen, story)
    if story.report:
        screen.text(f"Report: {story.report}", "bold")
        screen.text("Open the report in a browser. To browse all assets: make ui")
    else:
        screen.text(f"Next: {materialize_command('report')}")


def _show_failed_checks(screen: Screen, story: Story) -> None:
    """The checks that failed and did not stop the run."""
    if story.failed_checks:
        sentences = "; ".join(f"{check}: {sentence}" for check, sentence in story.failed_checks.items())
        screen.text(f"{plural(len(story.failed_checks), 'check')} failed: {sentences}.", "bold red")


def _show_frames(screen: Screen, failure: Failure) -> None:
    if failure.frames:
        for frame in failure.frames:
            screen.text(frame, "dim")
        screen.text(
            "Unexpected error, perhaps a bug. The full stack trace is on the run's page: make ui", "red"
        )
