"""Which checks block, and when a recorded result is reused."""

import dataclasses

import pytest

from vdm_pipeline.definitions import defs
from vdm_pipeline.graph import CHECKS, how_to_materialize
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.stages.subset import check_outcomes
from vdm_pipeline_tests.defs.assets.graph import computed, error_message, materialize

IMAGES = ("images_are_complete", "images_are_not_blank", "images_are_different")
BLOCKING = {
    *(
        ("labeled_dataset", name)
        for name in ("labels_predict_every_class", "labels_are_sound", "labels_beat_chance")
    ),
    *(("lora_subset", name) for name in ("subset_is_balanced", "subset_is_disjoint", "subset_is_pure")),
    *((arm, name) for arm in ("generated_images", "baseline_images", "extra_images") for name in IMAGES),
}
NOT_BLOCKING = {
    ("labeled_dataset", "labels_are_calibrated"),
    ("generated_images", "prompts_are_captions"),
    *((arm, "images_are_grey") for arm in ("generated_images", "baseline_images", "extra_images")),
    *(
        ("image_metrics", name)
        for name in (
            "arms_share_one_plan",
            "adapter_is_active",
            "lora_beats_baseline",
            "images_are_not_copies",
        )
    ),
}


def test_the_blocking_checks_block():
    specs = [spec for checks in defs.asset_checks or () for spec in checks.check_specs]
    assert {(spec.asset_key.to_user_string(), spec.name) for spec in specs if spec.blocking} == BLOCKING
    assert {
        (spec.asset_key.to_user_string(), spec.name) for spec in specs if not spec.blocking
    } == NOT_BLOCKING
    assert all(spec.description for spec in specs)


def test_the_run_fails_with_the_sentence_of_the_blocking_check(finished):
    finished.change(checks={"max_class_share": 0.4})
    result = materialize(finished.profile, finished.root, ["labeled_dataset"])
    recorded = Store(finished.root).check_results("labeled_dataset")["labels_predict_every_class"]
    assert "checks.max_class_share" in recorded.sentence
    assert error_message(result) == (
        f"Check labels_predict_every_class of labeled_dataset failed: {recorded.sentence}. "
        f"Fix the cause, then {how_to_materialize('labeled_dataset')}"
    )
    assert len(result.get_asset_check_evaluations()) == 4, "the results of the other checks are kept"


def test_a_check_runs_again_when_its_version_or_an_asset_that_it_reads_changes(finished):
    """The archive may change while the subset stays the same: the check compares both."""
    check, store = CHECKS["lora_subset", "subset_is_disjoint"], Store(finished.root)
    project = Project(finished.profile, store)
    fingerprints = [
        project.check_fingerprint(check),
        project.check_fingerprint(dataclasses.replace(check, version=check.version + 1)),
    ]
    for asset in ("raw_npz", "lora_subset", "label_metrics"):
        manifest = store.manifest(asset)
        assert manifest
        store.write_manifest(manifest.model_copy(update={"data_version": "another"}))
        fingerprints.append(project.check_fingerprint(check))
        store.write_manifest(manifest)
    assert fingerprints[4] == fingerprints[0], "label_metrics is not read"
    assert len(set(fingerprints)) == 4


@pytest.mark.parametrize("forced", [False, True])
def test_a_forced_run_recomputes_the_asset_and_runs_its_checks_again(finished, monkeypatch, forced):
    calls: list[int] = []
    balanced = check_outcomes.balanced
    monkeypatch.setattr(check_outcomes, "balanced", lambda *given: (calls.append(1), balanced(*given))[1])
    result = materialize(
        finished.profile,
        finished.root,
        ["label_noise", "lora_subset"],
        tags={"vdm/force": "lora_subset"} if forced else None,
    )
    assert computed(result) == ({"lora_subset"} if forced else set())
    assert len(calls) == forced
