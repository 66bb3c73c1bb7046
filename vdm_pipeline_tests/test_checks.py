"""Which checks stop a run."""

from vdm_pipeline.definitions import defs

BLOCKING = {
    *("labels_predict_every_class", "labels_are_sound", "labels_beat_chance"),
    *("subset_is_balanced", "subset_is_disjoint", "subset_is_pure", "images_are_not_blank"),
}


def test_checks_that_are_to_stop_a_run_are_blocking():
    specs = [spec for checks in defs.asset_checks or () for spec in checks.check_specs]
    assert {spec.name for spec in specs if spec.blocking} == BLOCKING
    assert {spec.name for spec in specs if not spec.blocking} == {"labels_are_calibrated", "arms_share_one_plan"}
