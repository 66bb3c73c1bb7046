"""The graph: each setting changes the code version of exactly the assets whose result it can change."""

import dataclasses

import pytest

from vdm_pipeline.graph import (
    STAGES,
    code_version,
    how_to_materialize,
    materialize_command,
    outputs,
    parts,
    parts_read,
)
from vdm_pipeline.settings import EMBEDDED, Profile, model_pin
from vdm_pipeline_tests.profiles import shrink

ALWAYS = {"pipeline_summary", "report"}
ARMS = {"generated_images", "baseline_images", "extra_images"}
LABELS = {"image_embeddings", "labeled_dataset", "label_metrics", "data_faults", "label_noise"}
PHRASES = (("one",), ("two",))


def changed(before: Profile, after: Profile) -> set[str]:
    return {asset for asset in STAGES if code_version(asset, before) != code_version(asset, after)}


@pytest.mark.parametrize(
    ("section", "key", "value", "assets"),
    [
        ("data", "seed", 9, {"raw_npz"}),
        ("data", "train", 81, {"raw_npz"}),
        ("labelling", "phrases", PHRASES, {"labeled_dataset"}),
        ("labelling", "decision", "argmax", {"labeled_dataset", "label_metrics"}),
        ("classes", "phrases", ("a", "b"), {"lora_subset", *ARMS}),
        ("classes", "template", "{phrase}", {"lora_subset", *ARMS}),
        (
            "classes",
            "names",
            ("x", "y"),
            {"raw_npz", "image_metrics", *(LABELS - {"image_embeddings"}), "lora_subset", *ARMS},
        ),
        ("subset", "per_class", 9, {"lora_subset"}),
        (
            "subset",
            "captions_from",
            "ground_truth",
            {"labeled_dataset", "label_noise", "label_metrics", "lora_subset"},
        ),
        ("faults", "blank_std", 5.0, {"data_faults"}),
        ("subset", "seed", 9, {"label_noise", "lora_subset"}),
        ("training", "max_train_steps", 7, {"lora_weights"}),
        ("training", "rank", 4, {"lora_weights"}),
        ("training", "seed", 9, {"lora_weights"}),
        ("training", "random_flip", True, {"lora_weights"}),
        ("training", "resolution", 32, {"lora_weights", *ARMS, "image_metrics"}),
        ("generation", "adapter_weight", 0.5, {"generated_images"}),
        ("generation", "extra", (), {"extra_images"}),
        ("generation", "lcm_weight", 0.5, ARMS),
        ("generation", "seed", 9, ARMS),
        ("generation", "num_inference_steps", 3, ARMS),
        ("generation", "guidance_scale", 2.0, ARMS),
        ("generation", "grey", False, ARMS),
        ("generation", "grey", True, set()),  # the archive is grey
        ("evaluation", "judge_epochs", 2, {"image_metrics"}),
        ("evaluation", "utility_epochs", 2, {"image_metrics"}),
        ("evaluation", "utility_seeds", 2, {"image_metrics"}),
        ("evaluation", "bootstrap", 51, {"label_metrics", "image_metrics"}),
        ("evaluation", "seed", 9, {"label_metrics", "image_metrics"}),
    ],
)
def test_a_setting_changes_exactly_the_assets_it_can_change(tiny, section, key, value, assets):
    other = shrink(tiny, **{section: {key: value}})
    assert getattr(getattr(other, section), key) == value
    assert changed(tiny, other) == assets | ALWAYS


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device", "cuda"),
        ("label_batch_size", 1),
        ("generation_batch_size", 1),
        ("checkpoint_every", 1),
        ("log_every", 1),
    ],
)
def test_execution_settings_change_no_code_version(tiny, key, value):
    other = shrink(tiny, execution={key: value})
    assert other != tiny
    assert changed(tiny, other) == set()


def test_limits_of_checks_change_only_summary_and_report(tiny):
    for limit, value in {
        "max_copied": 0.5,
        "max_ece": 0.5,
        "max_chroma": 1.0,
        "min_adapter_change": 2.0,
    }.items():
        assert changed(tiny, shrink(tiny, checks={limit: value})) == ALWAYS


def test_the_name_of_the_profile_changes_what_shows_it(tiny):
    assert changed(tiny, tiny.model_copy(update={"name": "other"})) == ALWAYS


@pytest.mark.parametrize(
    ("model", "assets"),
    [
        ("clip", {"image_embeddings", "labeled_dataset", "image_metrics"}),
        ("sd", {"lora_weights", *ARMS}),
        ("lcm_lora", ARMS),
    ],
)
def test_new_bytes_of_a_model_change_the_assets_that_use_it(tiny, monkeypatch, tmp_path, model, assets):
    before = {asset: code_version(asset, tiny) for asset in STAGES}
    pins = (EMBEDDED / "pins.json").read_text()
    start = pins.index('"', pins.index(f'"{model}":') + len(model) + 3) + 1
    (tmp_path / "pins.json").write_text(pins[:start] + "0" * 64 + pins[start + 64 :])
    monkeypatch.setattr(model_pin, "EMBEDDED", tmp_path)
    assert {asset for asset in STAGES if code_version(asset, tiny) != before[asset]} == assets | ALWAYS


def test_same_settings_give_the_same_version_and_assets_differ(tiny):
    versions = {asset: code_version(asset, tiny) for asset in STAGES}
    assert versions == {asset: code_version(asset, shrink(tiny)) for asset in STAGES}
    assert len(set(versions.values())) == len(STAGES)
    assert all(version.startswith(f"{STAGES[asset].version}-") for asset, version in versions.items())


def test_inputs_are_stages_that_come_before():
    seen: set[str] = set()
    for asset, stage in STAGES.items():
        assert asset == stage.asset
        assert set(stage.inputs) <= seen
        seen.add(asset)


def test_outputs_do_not_overlap_and_stay_in_one_folder(tiny):
    places = [(asset, path) for asset in STAGES for path in outputs(asset, tiny).values()]
    for asset in STAGES:
        paths = outputs(asset, tiny).values()
        assert paths
        assert len({path.split("/")[0] for path in paths}) == 1
        assert all(path.split("/")[0] in ("data", "results") for path in paths)
    for index, (_, path) in enumerate(places):
        for _, other in places[index + 1 :]:
            assert not f"{path}/".startswith(f"{other}/")
            assert not f"{other}/".startswith(f"{path}/")


def test_every_part_is_of_an_output_and_says_what_it_covers(tiny):
    for asset in STAGES:
        for name, part in parts(asset).items():
            assert part.output in outputs(asset, tiny), name
            assert part.files or part.fields or part.without, name


def test_every_part_is_read_by_an_asset_or_a_check(tiny):
    """Only the last asset's page is for people."""
    edges = [(asset, source) for asset in STAGES for source in STAGES[asset].inputs]
    read = {(source, name) for asset, source in edges for name in parts_read(asset, source)}
    assert {(asset, name) for asset in STAGES for name in parts(asset)} - read == {("report", "page")}
    assert {source for source, _ in read} <= set(STAGES)
    assert all(name in parts(source) for source, name in read)


def test_another_definition_of_a_part_is_another_code_version(tiny, monkeypatch):
    """Recorded data versions are those of the current definition."""
    before = code_version("lora_subset", tiny)
    stage = STAGES["lora_subset"]
    fewer = {**stage.parts, "training_set": dataclasses.replace(stage.parts["training_set"], fields={})}
    monkeypatch.setitem(STAGES, "lora_subset", dataclasses.replace(stage, parts=fewer))
    assert code_version("lora_subset", tiny) != before


def test_the_command_selects_the_asset_and_its_ancestors():
    assert materialize_command("report") == "dg launch --assets '*report'"


@pytest.mark.parametrize(
    ("asset", "clicks"),
    [
        ("raw_npz", "raw_npz > Materialize"),
        ("image_embeddings", "image_embeddings > Lineage > Upstream > Materialize all"),
        ("lora_subset", "lora_subset > Lineage > Upstream > Materialize all"),
        ("lora_weights", "lora_weights > Lineage > Upstream > All > Materialize all"),
    ],
)
def test_the_hint_names_the_clicks_in_the_ui(asset, clicks):
    """`test_ui.py` clicks them. 'All' is disabled where all ancestors are direct inputs."""
    assert how_to_materialize(asset) == f"run: {materialize_command(asset)} (in the UI: {clicks})"
