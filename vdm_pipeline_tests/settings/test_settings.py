"""Profiles: accepted values, and the error for each rejected one."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from vdm_pipeline.errors import SettingsError
from vdm_pipeline.settings import PROFILES, Data, ModelPin, Profile, Section, fingerprint, load_profile
from vdm_pipeline.stages.data.medmnist_info import medmnist_table

DEMO = (PROFILES / "demo.toml").read_text(encoding="utf-8")


def rejection(folder: Path, old: str, new: str) -> str:
    """The error of the demo profile with ``old`` replaced by ``new``: one sentence, the file first."""
    assert DEMO.count(old) == 1
    path = folder / "mine.toml"
    path.write_text(DEMO.replace(old, new), encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_profile(str(path))
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert sentence.startswith(str(path))
    return sentence


@pytest.mark.parametrize("name", ["demo", "pneumoniamnist", "sd15"])
def test_shipped_profiles_load(name):
    profile = load_profile(name)
    assert len(profile.labelling.prompts) == len(profile.classes.names) == len(profile.classes.phrases)
    more = {"features", "labeller_text"} if name == "sd15" else set()
    assert set(profile.models()) == {"labeller", "base", "lcm_lora"} | more


def test_every_field_has_a_description():
    def bare(model: type[BaseModel]) -> list[str]:
        fields = model.model_fields.items()
        nested = [
            f.annotation
            for _, f in fields
            if isinstance(f.annotation, type) and issubclass(f.annotation, Section)
        ]
        own = [
            f"{model.__name__}.{name}"
            for name, f in fields
            if not f.description and f.annotation not in nested
        ]
        return own + [name for part in nested for name in bare(part)]

    assert bare(Profile) == []


def test_the_profile_comes_from_the_argument_the_environment_or_is_the_demo(tmp_path, monkeypatch):
    path = tmp_path / "mine.toml"
    path.write_text(DEMO.replace('name = "demo (phantom)"', 'name = "mine"'), encoding="utf-8")
    monkeypatch.setenv("VDM_PROFILE", str(path))
    assert load_profile().name == "mine"
    assert load_profile("demo").name == "demo (phantom)"
    monkeypatch.delenv("VDM_PROFILE")
    assert load_profile() == load_profile("demo")


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("per_class = 200", "per_class = 200\nper_clas = 3", "unknown key 'subset.per_clas'"),
        ("[subset]", "[subsets]\nx = 1\n[subset]", "unknown key 'subsets'"),
        ("per_class = 200", "", "'subset.per_class' is missing"),
        ("max_train_steps = 700", "max_train_stepz = 700", "unknown key 'training.max_train_stepz'"),
        ("rank = 8", "rank = 10_000_000", "training.rank: "),
        ("resolution = 64", "resolution = 800_000", "training.resolution: "),
        ("rank = 8", 'rank = "eight"', "training.rank: "),
        ("rank = 8", "rank = 0", "training.rank: "),
        ("rank = 8", "rank = 1.5", "training.rank: "),
        ("resolution = 64", "resolution = 60", "training: resolution = 60"),
        ("lr_warmup_steps = 20", "lr_warmup_steps = 700", "lr_warmup_steps = 700"),
        ("learning_rate = 3e-3", "learning_rate = nan", "training.learning_rate: "),
        ("alpha = 8", "alpha = -1.0", "training.alpha: "),
        ("alpha = 8", "alpha = inf", "training.alpha: "),
        ("size = 64", "size = 65", "data.size: "),
        ('source = "phantom"', 'source = "file"', "data: "),
        ('"embedded:sd"', '"owner/name"', "training.base: 'owner/name' .* needs revision"),
        ('"embedded:sd"', '"owner/name", revision = "main"', "training.base: 'owner/name' .* needs revision"),
        (
            '"embedded:sd"',
            '"owner/na me"',
            "training.base: 'owner/na me' is neither embedded:<name>, nor a hub id",
        ),
        ('"embedded:sd"', '"owner/"', "training.base: 'owner/' is neither"),
        (
            'names = ["normal", "pneumonia"]',
            'names = ["normal", "overall"]',
            "classes.names: .*'overall'",
        ),
        ("batch_size = 16", "batch_size = 10_000_000_000_000", "training.batch_size: "),
        ("judge_epochs = 6", "judge_epochs = 6\nbootstrap = 1_000_000_000_000", "evaluation.bootstrap: "),
        ("judge_epochs = 6", "judge_epochs = 6\nbootstrap = 1", "evaluation.bootstrap: "),
        (
            "judge_epochs = 6",
            "judge_epochs = 6\n[execution]\nnum_processes = 17",
            "execution.num_processes = 17 is more than training.batch_size = 16",
        ),
        (
            'source = "phantom"',
            'source = "phantom"\nown = { channels = 1, sha256 = "12ab", licence = "x" }',
            "data.own.sha256: ",
        ),
        ("train = 1600", f"train = {10**30}", "data.train: "),
        ('"embedded:clip"', '"./models/clip"', "labelling.model: './models/clip' .* needs sha256"),
        (
            '"embedded:clip"',
            '"/models/clip", sha256 = "12ab"',
            "labelling.model: '/models/clip' .* needs sha256",
        ),
        (
            'phrases = ["healthy lungs", "pneumonia"]',
            'phrases = ["same", "same"]',
            "classes: phrases must differ",
        ),
        ('phrases = ["healthy lungs", "pneumonia"]', 'phrases = ["one"]', "classes: 2 names but 1 phrases"),
        (
            'names = ["normal", "pneumonia"]',
            'names = ["normal", "normal"]',
            "classes.names: class names must differ",
        ),
        (
            'names = ["normal", "pneumonia"]',
            'names = ["normal", "../x"]',
            "classes.names.1: must be lower-case letters",
        ),
        (
            'names = ["normal", "pneumonia"]',
            'names = ["normal", "two\\nlines"]',
            "classes.names.1: must be lower-case letters",
        ),
        ('"{phrase} on a chest X-ray"', '"a chest X-ray"', "classes: template must contain {phrase}"),
        ('phrases = [["healthy', 'phrases = [["more"], ["healthy', "labelling.phrases has 3 lists for 2"),
        ('"clear lungs"', '"pneumonia"', "labelling: a prompt appears twice"),
        ('"clear lungs"', '" "', "labelling.phrases.0.1: must not be blank"),
        (
            '"a chest X-ray showing {phrase}"',
            '"a chest X-ray"',
            "labelling: every one of labelling.templates must contain {phrase}",
        ),
        (
            'calibration = "platt"',
            'calibration = "none"',
            'labelling: decision = "balanced_accuracy"',
        ),
        ('calibration = "platt"', 'calibration = "isotonic"', "labelling.calibration: "),
        (
            'calibration = "platt"\ndecision = "balanced_accuracy"',
            'calibration = "prior"',
            "prior = .* go together",
        ),
        ('decision = "balanced_accuracy"', "prior = [0.5, 0.5]", "prior = .* go together"),
        (
            'calibration = "platt"\ndecision = "balanced_accuracy"',
            'calibration = "prior"\nprior = [0.5, 0.6]',
            "sum to 1",
        ),
        (
            'decision = "balanced_accuracy"',
            'decision = "sensitivity"\nsensitivity = 0',
            "labelling.sensitivity: ",
        ),
        ('"dpm25"', '"lora"', "generation.extra.0: .*'lora'"),
        ('"dpm25"', '"../x"', "generation.extra.0.name: "),
        ('"dpm25"', '"weight_050"', "generation.extra: names of extra arms must differ"),
        ('scheduler = "dpm"', 'scheduler = "ddim"', "generation.extra.0.scheduler: "),
        (
            'scheduler = "dpm", num_inference_steps = 25',
            "num_inference_steps = 51",
            "generation.extra.0: num_inference_steps = 51",
        ),
        (
            'scheduler = "dpm", num_inference_steps = 25',
            'scheduler = "dpm"',
            "'generation.extra.0.num_inference_steps' is missing",
        ),
        ("adapter_weight = 0.5", "adapter_weight = -0.5", "generation.extra.1.adapter_weight: "),
        ("[classes]", "[classes", "not valid TOML"),
    ],
)
def test_a_rejected_value_is_one_sentence_that_names_the_field(tmp_path, old, new, field):
    assert re.search(field.replace("{", r"\{"), rejection(tmp_path, old, new))


def test_a_list_that_is_too_short_counts_beside_another_fault(tmp_path):
    message = rejection(tmp_path, "rank = 8\nalpha = 8", "rank = 0\nalpha = 8\ntarget_modules = []")
    assert "(1 more)" in message


def test_more_faults_are_counted(tmp_path):
    assert "(1 more)" in rejection(tmp_path, "rank = 8\nalpha = 8", "rank = 0\nalpha = 0")


def test_a_file_that_is_not_text_is_an_error(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes(b"name = '\xff\xfe'")
    with pytest.raises(SettingsError, match=r"bad\.toml is not valid TOML"):
        load_profile(str(path))


@pytest.mark.parametrize("name", ["nothing", "nothing.toml", "../demo", "x" * 300])
def test_unknown_profile_names_the_shipped_ones(name):
    with pytest.raises(SettingsError, match=f"profile is '{name}'.*demo, pneumoniamnist, sd15") as caught:
        load_profile(name)
    assert "\n" not in str(caught.value)


def test_settings_are_frozen(tiny):
    with pytest.raises(ValidationError):
        tiny.training.max_train_steps = 7
    with pytest.raises(ValidationError):
        tiny.name = "other"


def test_fingerprint_is_stable_and_sensitive(tiny):
    known = fingerprint({"b": 1, "a": 2})
    assert known == fingerprint({"a": 2, "b": 1})
    assert re.fullmatch("[0-9a-f]{16}", known)
    assert fingerprint(tiny.training) == fingerprint(tiny.training.model_copy())
    variants = [
        fingerprint(tiny.training),
        fingerprint(tiny.training.model_copy(update={"seed": 1})),
        fingerprint(tiny.training, 1),
        fingerprint(tiny.training, "1"),
        fingerprint(1, tiny.training),
        fingerprint(tiny.training, None),
    ]
    assert len(set(variants)) == len(variants)


def test_caption_puts_the_phrase_of_the_label(tiny):
    assert [tiny.classes.caption(label) for label in (0, 1)] == [
        "healthy lungs on a chest X-ray",
        "pneumonia on a chest X-ray",
    ]


@pytest.mark.parametrize(
    ("dataset", "source", "size", "name"),
    [
        ("pneumoniamnist", "file", 28, "pneumoniamnist.npz"),
        ("pneumoniamnist", "download", 224, "pneumoniamnist_224.npz"),
        ("phantom", "phantom", 28, "phantom_28.npz"),
    ],
)
def test_the_archive_has_the_file_name_that_medmnist_uses(dataset, source, size, name):
    assert Data(dataset=dataset, source=source, size=size).file_name == name


def test_the_data_sets_in_colour_are_those_of_medmnist():
    table = medmnist_table()
    in_colour = {name for name, info in table.items() if info["n_channels"] == 3 and not name.endswith("3d")}
    assert {name for name in table if Data(dataset=name, source="file", size=28).in_colour} == in_colour


@pytest.mark.parametrize(
    ("id_", "source"),
    [
        ("embedded:sd", "embedded"),
        ("a/b", "hub"),
        ("./a", "folder"),
        ("/a/b/c", "folder"),
        ("~/m", "folder"),
        ("plain", "folder"),
    ],
)
def test_the_form_of_the_id_decides_the_source(id_, source):
    pin = ModelPin(id=id_, revision="0" * 40, weights={}, sha256="0" * 64, licence="MIT")
    assert pin.source == source
