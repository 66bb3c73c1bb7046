"""The plan of samples, and the settings of each arm."""

import pytest

from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.settings import ExtraArm
from vdm_pipeline.stages.generation.plan import PLANNED_KEYS, SampleSpec, extra_arm, main_arm, plan
from vdm_pipeline_tests.profiles import shrink
from vdm_pipeline_tests.stages.generation.jobs import BASE, LCM, arm_of, with_generation


def test_plan_is_balanced_and_seeds_follow_the_index(tiny):
    samples = plan(tiny.classes, tiny.generation)
    assert [sample.label for sample in samples] == ["normal", "pneumonia"] * 3
    assert [sample.seed - tiny.generation.seed for sample in samples] == list(range(6))
    assert {sample.prompt for sample in samples[::2]} == {tiny.classes.caption(0)}


def test_larger_plan_starts_with_the_smaller_one(tiny):
    small, large = (plan(tiny.classes, tiny.generation.model_copy(update={"per_class": n})) for n in (3, 5))
    assert large[: len(small)] == small
    assert [sample.label for sample in large].count("normal") == 5


def test_planned_keys_of_a_record_are_those_of_its_sample(tiny):
    record = arm_of(tiny).record(SampleSpec(7, "normal", "a film", 49))
    assert [record[key] for key in PLANNED_KEYS] == ["gen_007.png", "normal", "a film", 49]


def test_arms_have_the_adapter_weights_of_the_profile(tiny):
    profile = with_generation(tiny, lcm_weight=0.75, adapter_weight=0.5)
    ours, baseline = (main_arm(profile, BASE, LCM.path, lora) for lora in (LCM.path, None))
    assert [(a.name, a.weight) for a in ours.adapters] == [("lora", 0.5), ("lcm", 0.75)]
    assert [(a.name, a.weight) for a in baseline.adapters] == [("lcm", 0.75)]
    assert ours.adapter_sha256 == dict.fromkeys(("lora", "lcm"), file_sha256(LCM.path / LORA_WEIGHTS))
    same = {"adapters": baseline.adapters, "adapter_sha256": baseline.adapter_sha256}
    assert ours.model_copy(update=same) == baseline


@pytest.mark.parametrize(("size", "grey"), [(32, False), (64, True)])
def test_arms_have_the_resolution_of_the_training_and_the_colours_of_the_generation(tiny, size, grey):
    profile = with_generation(tiny, grey=grey).model_copy(
        update={"training": tiny.training.model_copy(update={"resolution": size})}
    )
    arm = main_arm(profile, BASE, LCM.path, None)
    assert (arm.size, arm.grey) == (size, grey)


@pytest.mark.parametrize(
    ("channels", "grey", "saves_grey"),
    [(1, None, True), (3, None, False), (1, False, False), (1, True, True), (3, False, False)],
)
def test_images_have_the_colours_of_the_archive_unless_the_profile_says_otherwise(
    tiny, channels, grey, saves_grey
):
    own = {"channels": channels, "sha256": "0" * 64, "licence": "MIT"}
    data = {"dataset": "mine", "source": "file", "own": own}
    profile = shrink(tiny, data=data, generation={"grey": grey})
    assert main_arm(profile, BASE, LCM.path, None).grey is saves_grey


@pytest.mark.parametrize(
    ("scheduler", "weight", "adapters"),
    [
        ("lcm", 1.5, {"lcm": 0.75, "lora": 1.5}),
        ("lcm", 0.0, {"lcm": 0.75}),
        ("dpm", 0.5, {"lora": 0.5}),
        ("dpm", 0.0, {}),
    ],
)
def test_extra_arm_has_its_own_weight_and_dpm_omits_lcm(tiny, scheduler, weight, adapters):
    extra = ExtraArm(
        name="x", scheduler=scheduler, num_inference_steps=7, guidance_scale=2.0, adapter_weight=weight
    )
    arm = extra_arm(with_generation(tiny, lcm_weight=0.75), extra, BASE, LCM.path, LCM.path)
    record = arm.record(plan(tiny.classes, tiny.generation)[0])
    assert record["adapters"] == adapters
    assert (record["scheduler"], record["steps"], record["guidance_scale"]) == (scheduler, 7, 2.0)
    assert (record["lora_sha256"] is None) == (weight == 0)
