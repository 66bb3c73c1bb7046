"""The last lines of a run: what was done, what failed, where the report is, and what to do next."""

from vdm_pipeline.defs.console.screen import Screen, duration, plural
from vdm_pipeline.defs.console.story import Story, asset_of
from vdm_pipeline.graph import materialize_command

AGAIN = "run the same command again: finished assets are kept, and training resumes."


def show_interruption(screen: Screen) -> None:
    """One line after Ctrl-C, or after "Terminate" in the UI."""
    screen.text(f"Interrupted; {AGAIN}", "yellow")


def show_failures(screen: Screen, story: Story) -> None:
    """Each failure with its sentence, the frames of a bug, and the assets that were not computed."""
    for failure in story.failures:
        screen.text(f"{asset_of(failure.step)} failed: {failure.sentence}", "bold red")
        for frame in failure.frames:
            screen.text(frame, "dim")
        if failure.frames:
            screen.text(
                "This is a bug. The whole trace is on the page of the run in Dagster's UI: make ui", "red"
            )
    if story.not_computed:
        screen.text(f"Not computed: {', '.join(story.not_computed)}.")
    screen.text(f"Then {AGAIN}")


def show_success(screen: Screen, story: Story, seconds: float) -> None:
    """What was done, where the report is, and what to do next."""
    done = plural(len(story.computed), "asset") + " computed" if story.computed else "Nothing to do"
    facts = [
        done,
        f"{len(story.skipped)} up to date" if story.skipped else "",
        f"{plural(sum(story.passed.values()), 'check')} passed" if story.passed else "",
        plural(story.warnings, "warning") if story.warnings else "",
        duration(seconds),
    ]
    screen.text(" · ".join(fact for fact in facts if fact), "bold")
    if story.report:
        screen.text(f"Report: {story.report}", "bold")
        screen.text("Next: open the report in a browser, or all assets in Dagster's UI: make ui")
    else:
        screen.text(f"Next: {materialize_command('report')}")
