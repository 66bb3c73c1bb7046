"""The one object that Dagster loads. It only assembles, and imports no torch."""

import click

from vdm_pipeline.defs.build import build_definitions
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.settings import load_profile


def _profile_changed() -> bool:
    try:
        return load_profile() != PROFILE
    except PipelineError:  # half-written, or gone
        return True


try:
    PROFILE = load_profile()
    defs = build_definitions(PROFILE, Store.from_environment(), _profile_changed)
except PipelineError as error:  # click prints only the sentence; a code server shows it in the UI
    raise click.ClickException(str(error)) from None
