"""Values of a profile: each bad one is a sentence before anything is loaded."""

from collections.abc import Callable

import pytest

from vdm_pipeline.defs.build import build_definitions
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.settings import PROFILES, load_profile
from vdm_pipeline_tests.bad_inputs.case import Case, check, each, snapshot

DEMO = (PROFILES / "demo.toml").read_text(encoding="utf-8")
NAME, CLASSES = 'name = "demo (phantom)"', 'names = ["normal", "pneumonia"]'
TEMPLATES = DEMO[DEMO.index("templates = ") : DEMO.index("\nphrases = [[")]
PHRASES = DEMO[DEMO.index("phrases = [[") : DEMO.index("\ncalibration")]
CALIBRATION = 'calibration = "platt"\ndecision = "balanced_accuracy"'
PHANTOM = 'dataset = "phantom"\nsource = "phantom"'
COMMIT = "ab" * 20
FOLDER = "must be the http or https address of a folder, such as 'https://example.org/medmnist', without user, query or #"
MIRRORS = {
    "mirror that is a path": "/srv/medmnist",
    "mirror with another scheme": "ftp://example.org/medmnist",
    "mirror without a host": "https:///medmnist",
    "mirror with a host that ends in dots": "https://example..org",
    "mirror with a port that there is none of": "https://example.org:99999",
    "mirror with a user": "https://me:secret@example.org",
    "mirror with a query": "https://example.org/medmnist?download=1",
    "mirror with a line break": "https://example.org/\\nHost: other",
}
PLAIN = "must be lower-case letters, digits, '-' and '_', 64 at most"


def with_(old: str, new: str) -> Callable[[], str]:
    """The demo profile with one thing changed."""
    assert DEMO.count(old) == 1
    return lambda: DEMO.replace(old, new)


def with_more(text: str) -> Callable[[], str]:
    return lambda: f"{DEMO}\n{text}\n"


CASES = [
    Case(
        "`name` with a line break",
        r"…mine.toml: name: must be one line without control characters (it is 'a\nb').",
        with_(NAME, 'name = "a\\nb"'),
    ),
    Case("blank `name`", "…mine.toml: name: must not be blank (it is ' ').", with_(NAME, 'name = " "')),
    Case(
        "`name` of 100,000 characters",
        "…mine.toml: name: must have 1000 characters at most, and has 100000 (it is 'xxx… and so on).",
        with_(NAME, f'name = "{"x" * 100_000}"'),
    ),
    Case(
        "number for a text",
        "…mine.toml: name: Input should be a valid string (it is 5).",
        with_(NAME, "name = 5"),
    ),
    Case(
        "date for a text",
        "…mine.toml holds a date or a time, which no key takes; put it in quotes.",
        with_(NAME, "name = 2020-01-01"),
    ),
    Case(
        "misspelt section",
        "…mine.toml: unknown key 'evaluations'; remove it or correct its spelling.",
        with_("[evaluation]", "[evaluations]"),
    ),
    Case(
        "value for a section",
        "…mine.toml: evaluation: Input should be an object (it is 5).",
        lambda: "evaluation = 5\n" + DEMO.replace("[evaluation]\njudge_epochs = 6", ""),
    ),
    Case(
        "two tables for a section",
        "…mine.toml: subset: Input should be an object.",
        with_("[subset]", "[[subset]]"),
    ),
    Case(
        "text for a model",
        "…mine.toml: training.base: Input should be an object (it is 'embedded:sd').",
        with_('{ id = "embedded:sd", licence = "MIT" }', '"embedded:sd"'),
    ),
    Case(
        "NaN for a share",
        "…mine.toml: data.pneumonia_share: Input should be a finite number (it is nan).",
        with_("train = 1600", "train = 1600\npneumonia_share = nan"),
    ),
    Case(
        "infinite `max_grad_norm`",
        "…mine.toml: training.max_grad_norm: Input should be a finite number (it is inf).",
        with_("rank = 8", "rank = 8\nmax_grad_norm = inf"),
    ),
    Case(
        "share of 2",
        "…mine.toml: data.pneumonia_share: Input should be less than or equal to 1 (it is 2).",
        with_("train = 1600", "train = 1600\npneumonia_share = 2"),
    ),
    Case(
        "negative count",
        "…mine.toml: data.train: Input should be greater than 0 (it is -1).",
        with_("train = 1600", "train = -1"),
    ),
    Case(
        "negative seed",
        "…mine.toml: generation.seed: Input should be greater than or equal to 0 (it is -1).",
        with_("seed = 42", "seed = -1"),
    ),
    Case(
        "float for a count",
        "…mine.toml: training.rank: Input should be a valid integer (it is 8.0).",
        with_("rank = 8", "rank = 8.0"),
    ),
    Case(
        "number of 5000 digits",
        "…mine.toml holds a number of thousands of digits, which no key takes; write a smaller one.",
        with_("rank = 8", f"rank = {'9' * 5000}"),
    ),
    Case(
        "1 for true",
        "…mine.toml: training.random_flip: Input should be a valid boolean (it is 1).",
        with_("rank = 8", "rank = 8\nflip = 1"),
    ),
    Case(
        "`prior` with NaN",
        "…mine.toml: labelling.prior.0: Input should be a finite number (it is nan).",
        with_(CALIBRATION, 'calibration = "prior"\nprior = [nan, 0.5]'),
    ),
    Case(
        "`prior` of three for two classes",
        "…mine.toml: labelling: prior must hold one share above 0 a class, summing to 1.",
        with_(CALIBRATION, 'calibration = "prior"\nprior = [0.5, 0.25, 0.25]'),
    ),
    Case(
        "no list of phrases",
        "…mine.toml: the profile: labelling.phrases has 0 lists for 2 classes; give one list a class.",
        with_(PHRASES, "phrases = []"),
    ),
    Case(
        "empty lists of phrases",
        "…mine.toml: labelling: every class needs at least one phrase.",
        with_(PHRASES, "phrases = [[], []]"),
    ),
    Case(
        "phrases that are no lists",
        "…mine.toml: labelling.phrases.0: Input should be a valid array (it is 'a') (1 more).",
        with_(PHRASES, 'phrases = ["a", "b"]'),
    ),
    Case(
        "no template",
        "…mine.toml: 'labelling.templates' has 0 entries and needs 1 at least.",
        with_(TEMPLATES, "templates = []"),
    ),
    Case(
        "the same template twice",
        "…mine.toml: labelling: the same prompt stands twice; each may stand for one class only.",
        with_(TEMPLATES, 'templates = ["{phrase}", "{phrase}"]'),
    ),
    Case(
        "blank phrase of a class",
        "…mine.toml: classes.phrases.0: must not be blank (it is '').",
        with_('phrases = ["healthy lungs", "pneumonia"]', 'phrases = ["", "pneumonia"]'),
    ),
    Case(
        "caption with NUL",
        r"…mine.toml: classes.template: must be one line without control characters (it is '{phrase}\x00').",
        with_('"{phrase} on a chest X-ray"', '"{phrase}\\u0000"'),
    ),
    Case(
        "one class",
        "…mine.toml: 'classes.names' has 1 entries and needs 2 at least.",
        with_(CLASSES, 'names = ["normal"]'),
    ),
    Case(
        "class name with a slash",
        f"…mine.toml: classes.names.1: {PLAIN} (it is 'a/b').",
        with_(CLASSES, 'names = ["normal", "a/b"]'),
    ),
    Case(
        "class name in Chinese",
        f"…mine.toml: classes.names.1: {PLAIN} (it is '肺炎').",
        with_(CLASSES, 'names = ["normal", "肺炎"]'),
    ),
    Case(
        "class name with markup",
        f"…mine.toml: classes.names.1: {PLAIN} (it is '<b>').",
        with_(CLASSES, 'names = ["normal", "<b>"]'),
    ),
    Case(
        "class name of 400 letters",
        f"…mine.toml: classes.names.1: {PLAIN} (it is 'xxx… and so on).",
        with_(CLASSES, f'names = ["normal", "{"x" * 400}"]'),
    ),
    Case(
        "`dataset` that climbs",
        f"…mine.toml: data.dataset: {PLAIN} (it is '../x').",
        with_(PHANTOM, 'dataset = "../x"\nsource = "file"'),
    ),
    Case(
        "arm with a line break in its name",
        rf"…mine.toml: generation.extra.0.name: {PLAIN} (it is 'dpm25\n').",
        with_('"dpm25"', '"dpm25\\n"'),
    ),
    Case(
        "hub id with a branch for a revision",
        "…mine.toml: training.base: 'owner/name' comes from a hub, so it needs revision = \"<commit, 40 hex digits>\".",
        with_('"embedded:sd"', '"owner/name", revision = "v1.0"'),
    ),
    Case(
        "hub id without the hashes of its weights",
        '…mine.toml: training.base: \'owner/name\' comes from a hub, so it needs weights = { "<file>" = "<sha256>" }; '
        f"print them with: python -m vdm_pipeline.stages.models owner/name {COMMIT}.",
        with_('"embedded:sd"', f'"owner/name", revision = "{COMMIT}"'),
    ),
    Case(
        "weights that climb out of their repository",
        "…mine.toml: training.base.weights.../../secret.[key]: must be the path of a file in the repository, "
        "such as 'unet/weights.safetensors' (it is '../../secret').",
        with_(
            '"embedded:sd"',
            f'"owner/name", revision = "{COMMIT}", weights = {{ "../../secret" = "{"0" * 64}" }}',
        ),
    ),
    Case(
        "weights with half a hash",
        "…mine.toml: training.base.weights.unet/w.safetensors: String should match pattern '^[0-9a-f]{64}$' (it is '12ab').",
        with_(
            '"embedded:sd"',
            f'"owner/name", revision = "{COMMIT}", weights = {{ "unet/w.safetensors" = "12ab" }}',
        ),
    ),
    Case(
        "embedded model that there is none of",
        "There is no embedded model 'nothing'; take one of: clip, lcm_lora, sd.",
        with_('"embedded:sd"', '"embedded:nothing"'),
    ),
    Case(
        "embedded model that climbs",
        "There is no embedded model '../profiles'; take one of: clip, lcm_lora, sd.",
        with_('"embedded:sd"', '"embedded:../profiles"'),
    ),
    Case(
        "model without an id",
        "…mine.toml: training.base.id: must not be blank (it is '').",
        with_('"embedded:sd"', '""'),
    ),
    Case(
        "words for a schedule",
        "automation.relabel_cron is 'every night', which is no cron schedule of five fields; write one such as '0 3 * * 1'.",
        with_more('[automation]\nrelabel_cron = "every night"'),
    ),
    Case(
        "schedule of a day that never comes",
        "automation.relabel_cron is '0 0 31 2 *', which is no cron schedule of five fields; write one such as '0 3 * * 1'.",
        with_more('[automation]\nrelabel_cron = "0 0 31 2 *"'),
    ),
    Case(
        "schedule with seconds",
        "automation.relabel_cron is '*/5 * * * * *', which is no cron schedule of five fields; write one such as '0 3 * * 1'.",
        with_more('[automation]\nrelabel_cron = "*/5 * * * * *"'),
    ),
    Case(
        "device that there is none of",
        "…mine.toml: execution.device: Input should be 'auto', 'cpu', 'cuda' or 'mps' (it is 'gpu').",
        with_more('[execution]\ndevice = "gpu"'),
    ),
    *(
        Case(
            title,
            f"…mine.toml: execution.archive_mirror: {FOLDER} (it is '{url}').",
            with_more(f'[execution]\narchive_mirror = "{url}"'),
        )
        for title, url in MIRRORS.items()
    ),
    Case(
        "engine that there is none of",
        "…mine.toml: execution.engine: Input should be 'local' or 'ray' (it is 'spark').",
        with_more('[execution]\nengine = "spark"'),
    ),
    Case(
        "address of Ray's job server, in the place of its cluster's",
        "…mine.toml: execution.ray.address: must be auto, host:port or ray://host:port; leave it out for a cluster of this machine alone "
        "(it is 'http://head:8265').",
        with_more('[execution]\nray = { address = "http://head:8265" }'),
    ),
    Case(
        "a port that there is none of",
        "…mine.toml: execution.ray.address: must be auto, host:port or ray://host:port; leave it out for a cluster of this machine alone "
        "(it is 'head:99999').",
        with_more('[execution]\nray = { address = "head:99999" }'),
    ),
    Case(
        "one GPU and a half",
        "…mine.toml: execution.ray.gpus: must be 0, a share of one GPU such as 0.5, or a whole number of them (it is 1.5).",
        with_more("[execution]\nray = { gpus = 1.5 }"),
    ),
    Case(
        "cluster of no workers",
        "…mine.toml: execution.ray.workers: Input should be greater than 0 (it is 0).",
        with_more("[execution]\nray = { workers = 0 }"),
    ),
]


@each(CASES)
def test_a_bad_value_is_a_sentence(case, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(case.make(), encoding="utf-8")
    before = snapshot(tmp_path)
    with pytest.raises(PipelineError) as caught:
        build_definitions(load_profile(str(path)), Store(tmp_path))
    check(case, str(caught.value))
    assert snapshot(tmp_path) == before


def test_any_script_and_markup_are_welcome_in_texts(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(DEMO.replace("demo (phantom)", "肺炎 <b>Ä</b> ../../x"), encoding="utf-8")
    assert load_profile(str(path)).name == "肺炎 <b>Ä</b> ../../x"
