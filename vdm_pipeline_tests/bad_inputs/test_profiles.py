"""Bad values in a profile: each raises one sentence before anything is loaded."""

from collections.abc import Callable

import pytest

from vdm_pipeline.defs.build import build_definitions
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.settings import PROFILES, load_profile
from vdm_pipeline_tests.bad_inputs.case import Case, parametrize, snapshot

DEMO = (PROFILES / "demo.toml").read_text(encoding="utf-8")
NAME, CLASSES = 'name = "demo (phantom)"', 'names = ["normal", "pneumonia"]'
TEMPLATES = DEMO[DEMO.index("templates = ") : DEMO.index("\nphrases = [[")]
PHRASES = DEMO[DEMO.index("phrases = [[") : DEMO.index("\ncalibration")]
CLASS_PHRASES = 'phrases = ["healthy lungs", "pneumonia"]'
CALIBRATION = 'calibration = "platt"\ndecision = "balanced_accuracy"'
PHANTOM = 'dataset = "phantom"\nsource = "phantom"'
TRAIN, RANK, BASE = "train = 1600", "rank = 8", '{ id = "embedded:sd", licence = "MIT" }'
COMMIT = "ab" * 20
MIRRORS = {
    "mirror that is a path": "/srv/medmnist",
    "mirror with another scheme": "ftp://example.org/medmnist",
    "mirror without a host": "https:///medmnist",
    "mirror with a host that ends in dots": "https://example..org",
    "mirror with a port that does not exist": "https://example.org:99999",
    "mirror with a user": "https://me:secret@example.org",
    "mirror with a query": "https://example.org/medmnist?download=1",
    "mirror with a line break": "https://example.org/\\nHost: other",
}


def replace(old: str, new: str) -> Callable[[], str]:
    """The demo profile with one text replaced."""
    assert DEMO.count(old) == 1
    return lambda: DEMO.replace(old, new)


def append(text: str) -> Callable[[], str]:
    """The demo profile with a text at its end."""
    return lambda: f"{DEMO}\n{text}\n"


def base_model(fields: str) -> Callable[[], str]:
    """The demo profile with another base model."""
    return replace(BASE, f'{{ {fields}, licence = "MIT" }}')


NAMES = [
    Case("`name` with a line break", "name", replace(NAME, 'name = "a\\nb"')),
    Case("blank `name`", "name", replace(NAME, 'name = " "')),
    Case("`name` of 100,000 characters", "name", replace(NAME, f'name = "{"x" * 100_000}"')),
    Case("number instead of a text", "name", replace(NAME, "name = 5")),
    Case("date instead of a text", "mine.toml", replace(NAME, "name = 2020-01-01")),
]
SECTIONS = [
    Case("misspelt section", "'evaluations'", replace("[evaluation]", "[evaluations]")),
    Case(
        "value instead of a section",
        "evaluation",
        lambda: "evaluation = 5\n" + DEMO.replace("[evaluation]\njudge_epochs = 6", ""),
    ),
    Case("two tables for a section", "subset", replace("[subset]", "[[subset]]")),
    Case("text instead of a model", "training.base", replace(BASE, '"embedded:sd"')),
]
NUMBERS = [
    Case("NaN for a share", "data.pneumonia_share", replace(TRAIN, f"{TRAIN}\npneumonia_share = nan")),
    Case("infinite `max_grad_norm`", "training.max_grad_norm", replace(RANK, f"{RANK}\nmax_grad_norm = inf")),
    Case("share of 2", "data.pneumonia_share", replace(TRAIN, f"{TRAIN}\npneumonia_share = 2")),
    Case("negative count", "data.train", replace(TRAIN, "train = -1")),
    Case("negative seed", "generation.seed", replace("seed = 42", "seed = -1")),
    Case("float for a count", "training.rank", replace(RANK, "rank = 8.0")),
    Case("number of 5000 digits", "mine.toml", replace(RANK, f"rank = {'9' * 5000}")),
    Case("1 instead of true", "training.random_flip", replace(RANK, f"{RANK}\nrandom_flip = 1")),
]
LABELLING = [
    Case(
        "`prior` with NaN",
        "labelling.prior.0",
        replace(CALIBRATION, 'calibration = "prior"\nprior = [nan, 0.5]'),
    ),
    Case(
        "`prior` of three values for two classes",
        "labelling: prior",
        replace(CALIBRATION, 'calibration = "prior"\nprior = [0.5, 0.25, 0.25]'),
    ),
    Case("no list of phrases", "labelling.phrases", replace(PHRASES, "phrases = []")),
    Case("empty lists of phrases", "labelling", replace(PHRASES, "phrases = [[], []]")),
    Case("phrases that are not lists", "labelling.phrases.0", replace(PHRASES, 'phrases = ["a", "b"]')),
    Case("no template", "labelling.templates", replace(TEMPLATES, "templates = []")),
    Case("the same template twice", "labelling", replace(TEMPLATES, 'templates = ["{phrase}", "{phrase}"]')),
]
CLASS_NAMES = [
    Case(
        "blank phrase of a class", "classes.phrases.0", replace(CLASS_PHRASES, 'phrases = ["", "pneumonia"]')
    ),
    Case(
        "caption with NUL",
        "classes.template",
        replace('"{phrase} on a chest X-ray"', '"{phrase}\\u0000"'),
    ),
    Case("one class", "classes.names", replace(CLASSES, 'names = ["normal"]')),
    Case("class name with a slash", "classes.names.1", replace(CLASSES, 'names = ["normal", "a/b"]')),
    Case("class name in Chinese", "classes.names.1", replace(CLASSES, 'names = ["normal", "肺炎"]')),
    Case("class name with markup", "classes.names.1", replace(CLASSES, 'names = ["normal", "<b>"]')),
    Case(
        "class name of 400 letters",
        "classes.names.1",
        replace(CLASSES, f'names = ["normal", "{"x" * 400}"]'),
    ),
    Case("`dataset` with `../`", "data.dataset", replace(PHANTOM, 'dataset = "../x"\nsource = "file"')),
    Case(
        "grey images of a colour archive",
        "generation.grey",
        lambda: DEMO.replace(PHANTOM, 'dataset = "dermamnist"\nsource = "file"').replace(
            "seed = 42", "seed = 42\ngrey = true"
        ),
    ),
    Case("arm with a line break in its name", "generation.extra.0.name", replace('"dpm25"', '"dpm25\\n"')),
]
MODELS = [
    Case(
        "hub id with a branch instead of a commit",
        "training.base",
        base_model('id = "owner/name", revision = "v1.0"'),
    ),
    Case(
        "hub id without the hashes of its weights",
        "training.base",
        base_model(f'id = "owner/name", revision = "{COMMIT}"'),
    ),
    Case(
        "weights outside their repository",
        "training.base.weights",
        base_model(
            f'id = "owner/name", revision = "{COMMIT}", weights = {{ "../../secret" = "{"0" * 64}" }}'
        ),
    ),
    Case(
        "weights with half a hash",
        'training.base.weights."unet/w.safetensors"',
        base_model(
            f'id = "owner/name", revision = "{COMMIT}", weights = {{ "unet/w.safetensors" = "12ab" }}'
        ),
    ),
    Case("unknown embedded model", "'nothing'", base_model('id = "embedded:nothing"')),
    Case("embedded model with `../`", "'../profiles'", base_model('id = "embedded:../profiles"')),
    Case("model without an id", "training.base.id", base_model('id = ""')),
]
SCHEDULES = [
    Case(title, "automation.relabel_cron", append(f'[automation]\nrelabel_cron = "{cron}"'))
    for title, cron in {
        "words instead of a schedule": "every night",
        "schedule of a day that never comes": "0 0 31 2 *",
        "schedule with seconds": "*/5 * * * * *",
    }.items()
]
EXECUTION = [
    Case("unknown device", "execution.device", append('[execution]\ndevice = "gpu"')),
    *(
        Case(title, "execution.archive_mirror", append(f'[execution]\narchive_mirror = "{url}"'))
        for title, url in MIRRORS.items()
    ),
    Case("unknown engine", "execution.engine", append('[execution]\nengine = "spark"')),
    Case(
        "address of Ray's job server instead of its cluster's",
        "execution.ray.address",
        append('[execution]\nray = { address = "http://head:8265" }'),
    ),
    Case(
        "port of a Ray cluster that does not exist",
        "execution.ray.address",
        append('[execution]\nray = { address = "head:99999" }'),
    ),
    Case("one and a half GPUs", "execution.ray.gpus", append("[execution]\nray = { gpus = 1.5 }")),
    Case("no Ray workers", "execution.ray.workers", append("[execution]\nray = { workers = 0 }")),
]
CASES = [*NAMES, *SECTIONS, *NUMBERS, *LABELLING, *CLASS_NAMES, *MODELS, *SCHEDULES, *EXECUTION]


@parametrize(CASES)
def test_bad_value_is_rejected(case, tmp_path, sentences):
    path = tmp_path / "mine.toml"
    path.write_text(case.make(), encoding="utf-8")
    before = snapshot(tmp_path)
    with pytest.raises(PipelineError) as caught:
        build_definitions(load_profile(str(path)), Store(tmp_path))
    sentences.check(case, str(caught.value), tmp_path)
    assert snapshot(tmp_path) == before


def test_any_script_and_markup_are_accepted_in_texts(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(DEMO.replace("demo (phantom)", "肺炎 <b>Ä</b> ../../x"), encoding="utf-8")
    assert load_profile(str(path)).name == "肺炎 <b>Ä</b> ../../x"
