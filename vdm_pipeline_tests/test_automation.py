"""The re-labelling schedule."""

import dagster as dg
import pytest

from vdm_pipeline.automation import relabelling
from vdm_pipeline.definitions import defs
from vdm_pipeline.errors import SettingsError


def test_the_schedule_asks_for_labels_and_nothing_after_them():
    schedule = defs.resolve_schedule_def("relabel")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.cron_schedule == "0 3 * * 1"
    tick = schedule.evaluate_tick(dg.build_schedule_context())
    assert len(tick.run_requests) == 1
    job = defs.resolve_job_def("relabel")
    selected = {key.to_user_string() for key in job.asset_layer.executable_asset_keys & job.asset_layer.selected_asset_keys}
    assert selected == {"raw_npz", "image_embeddings", "labeled_dataset", "label_metrics"}


def test_a_bad_cron_is_a_sentence(tiny):
    bad = tiny.model_copy(update={"automation": tiny.automation.model_copy(update={"relabel_cron": "every night"})})
    with pytest.raises(SettingsError, match=r"automation.relabel_cron is 'every night', which is no cron schedule of five fields"):
        relabelling(bad)
