"""Which checks stop a run."""

import dataclasses

import pytest

from vdm_pipeline.definitions import defs
from vdm_pipeline.graph import CHECKS
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.stages.labelling import check_outcomes as findings
from vdm_pipeline_tests.defs.assets.graph import computed, materialize

IMAGES = ("images_are_complete", "images_are_not_blank", "images_are_different")
BLOCKING = {
    *(
        ("labeled_dataset", name)
        for name in ("labels_predict_every_class", "labels_are_sound", "labels_beat_chance")
    ),
    *(("lora_subset", name) for name in ("subset_is_balanced", "subset_is_disjoint", "subset_is_pure")),
    *((arm, name) for arm in ("generated_images", "baseline_images", "extra_images") for name in IMAGES),
}
TOLD = {
    ("labeled_dataset", "labels_are_calibrated"),
    ("generated_images", "prompts_are_captions"),
    *((arm, "images_are_grey") for arm in ("generated_images", "baseline_images", "extra_images")),
    *(
        ("image_metrics", name)
        for name in (
            "arms_share_one_plan",
            "adapter_is_active",
            "lora_beats_baseline",
            "images_are_no_copies",
        )
    ),
}


def test_checks_that_are_to_stop_a_run_are_blocking():
    specs = [spec for checks in defs.asset_checks or () for spec in checks.check_specs]
    assert {(spec.asset_key.to_user_string(), spec.name) for spec in specs if spec.blocking} == BLOCKING
    assert {(spec.asset_key.to_user_string(), spec.name) for spec in specs if not spec.blocking} == TOLD
    assert all(spec.description for spec in specs)


def test_what_a_check_finds_depends_on_its_version_and_on_all_that_it_reads(made):
    """The subset may be the same while the archive, whose val and test it is not to share, is another."""
    gate, store = CHECKS["lora_subset", "subset_is_disjoint"], Store(made.root)
    run = Project(made.profile, store)
    prints = [
        run.check_fingerprint(gate),
        run.check_fingerprint(dataclasses.replace(gate, version=gate.version + 1)),
    ]
    for asset in ("raw_npz", "lora_subset", "label_metrics"):
        record = store.manifest(asset)
        assert record
        store.record(record.model_copy(update={"data_version": "another"}))
        prints.append(run.check_fingerprint(gate))
        store.record(record)
    assert prints[4] == prints[0], "label_metrics is not read"
    assert len(set(prints)) == 4


@pytest.mark.parametrize("forced", [False, True])
def test_a_run_that_its_tag_forces_makes_the_asset_again_and_has_its_checks_look_again(
    made, monkeypatch, forced
):
    looked: list[int] = []
    balanced = findings.balanced
    monkeypatch.setattr(findings, "balanced", lambda *given: (looked.append(1), balanced(*given))[1])
    result = materialize(
        made.profile,
        made.root,
        ["label_noise", "lora_subset"],
        tags={"vdm/force": "lora_subset"} if forced else None,
    )
    assert computed(result) == ({"lora_subset"} if forced else set())
    assert len(looked) == forced
