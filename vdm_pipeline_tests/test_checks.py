"""Which checks stop a run."""

from vdm_pipeline.definitions import defs

IMAGES = ("images_are_complete", "images_are_not_blank", "images_are_different")
BLOCKING = {
    *(("labeled_dataset", name) for name in ("labels_predict_every_class", "labels_are_sound", "labels_beat_chance")),
    *(("lora_subset", name) for name in ("subset_is_balanced", "subset_is_disjoint", "subset_is_pure")),
    *((arm, name) for arm in ("generated_images", "baseline_images", "extra_images") for name in IMAGES),
}
TOLD = {
    ("labeled_dataset", "labels_are_calibrated"),
    ("generated_images", "prompts_are_captions"),
    *((arm, "images_are_grey") for arm in ("generated_images", "baseline_images", "extra_images")),
    *(("image_metrics", name) for name in ("arms_share_one_plan", "adapter_is_active", "lora_beats_baseline", "images_are_no_copies")),
}


def test_checks_that_are_to_stop_a_run_are_blocking():
    specs = [spec for checks in defs.asset_checks or () for spec in checks.check_specs]
    assert {(spec.asset_key.to_user_string(), spec.name) for spec in specs if spec.blocking} == BLOCKING
    assert {(spec.asset_key.to_user_string(), spec.name) for spec in specs if not spec.blocking} == TOLD
    assert all(spec.description for spec in specs)
