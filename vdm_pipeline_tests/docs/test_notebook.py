"""The notebook's text, and the notebook itself in a kernel: what it shows, and that it stops where something fails."""

import base64
import csv
import html
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.settings import load_profile
from vdm_pipeline_tests.conftest import shrink, write_profile
from vdm_pipeline_tests.docs.notebook import NOTEBOOK, ROOT, cells, commands, execute, shown, source

PROJECT = ("Makefile", "pyproject.toml", "constraints.txt", "dagster.yaml", "vdm_pipeline")
LACKING = [name for name in ("nbclient", "nbformat", "ipykernel") if importlib.util.find_spec(name) is None]
runs = pytest.mark.skipif(
    bool(LACKING) or not shutil.which("make"), reason=f"not installed: {', '.join(LACKING) or 'make'}"
)
PNG = re.compile(r'<img width="128" alt="([^"]+)" src="data:image/png;base64,([^"]+)">')


@pytest.mark.skipif("nbformat" in LACKING, reason="nbformat is not installed")
def test_it_is_a_valid_notebook():
    import nbformat

    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


def test_no_output_is_kept_and_every_cell_is_short_and_has_its_sentence():
    found = cells()
    kinds = [cell["cell_type"] for cell in found]
    for index, cell in enumerate(found):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            assert kinds[index - 1] == "markdown" and found[index - 1]["source"]
            assert len(cell["source"]) <= 24, cell["id"]
    assert kinds.count("code") > 10


def test_its_commands_are_those_of_the_makefile_and_the_readme():
    install, run = "make install", "make run"
    assert [command.split(" PYTHON=")[0] for command in commands() if command.startswith("make")] == [
        install,
        run,
    ]
    assert all(command.startswith(("make ", "apt-get install ")) for command in commands())
    told = {
        name: subprocess.run([*name.split(), "-n", "-B"], cwd=ROOT, capture_output=True, text=True)
        for name in (install, run)
    }
    assert all(done.returncode == 0 for done in told.values())
    assert "pip install -c constraints.txt -e" in told[install].stdout
    asked = "dagster asset materialize -m vdm_pipeline.definitions --select '*report'"
    assert asked in told[run].stdout and asked in source("run-text")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert run in readme and asked.replace("report", "generated_images") in readme


@pytest.mark.parametrize("install", [True, False])
@pytest.mark.parametrize("complete", [True, False])
def test_it_installs_where_it_is_asked_to(monkeypatch, install, complete):
    asked: list[str] = []
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: find(name) if complete or name != "ensurepip" else None
    )
    exec(source("install"), {"INSTALL": install, "sh": asked.append})
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    mended = [] if complete else [f"apt-get install -y -q python{version}-venv"]
    assert asked == ([*mended, f"make install PYTHON={sys.executable}"] if install else [])


def copy(folder: Path) -> Path:
    """The project, as a clone has it, with the environment of now as its own."""
    (folder / ".venv").mkdir(parents=True)
    for name in PROJECT:
        whole = ROOT / name
        shutil.copytree(whole, folder / name, dirs_exist_ok=True) if whole.is_dir() else shutil.copy(
            whole, folder
        )
    for part in ("bin", "lib", "pyvenv.cfg"):
        (folder / ".venv" / part).symlink_to(Path(sys.prefix) / part)
    (folder / ".venv/.installed").touch()
    return folder


@pytest.fixture
def hosted(tmp_path, monkeypatch) -> Path:
    """Where the notebook runs, without a GPU and offline, with the project beside it."""
    project = copy(tmp_path / "hosted/project")
    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv(
        "PYTHON", "false"
    )  # should make want to install after all, it fails before it touches the environment of now
    for name in ("VDM_PROFILE", "VDM_ROOT", "VDM_FORCE"):
        monkeypatch.delenv(name, raising=False)
    return project


def pictures(outputs: list) -> list[tuple[str, bytes]]:
    """What is said of the pictures in a cell's HTML, and their bytes."""
    return [
        (html.unescape(alt), base64.b64decode(png)) for alt, png in PNG.findall(shown(outputs, "text/html"))
    ]


def check_labels(outputs: dict, root: Path) -> None:
    """Counts, metrics and pictures are those of the files."""
    with (root / "results/labeled_dataset.csv").open() as file:
        counts = Counter((row["split"], row["auto_label"]) for row in csv.DictReader(file))
    rows = re.findall(r"\| (train|val|test) \| (\d+) \| (\d+) \|", shown(outputs["labels"], "text/markdown"))
    assert {
        (split, name): int(count)
        for split, *row in rows
        for name, count in zip(("normal", "pneumonia"), row, strict=True)
    } == counts
    scores = json.loads((root / "results/metrics/auto_label_metrics.json").read_text())["test"]
    low, high = scores["balanced_accuracy_ci95"]
    calibrated = f"| balanced_accuracy | {scores['balanced_accuracy']:.3f} [{low:.3f}, {high:.3f}] |"
    assert calibrated in shown(outputs["label-metrics"], "text/markdown")
    subset = root / "data/subset"
    learnt = {(subset / row["file_name"]).read_bytes(): row for row in read_rows(subset / "metadata.jsonl")}
    labelled = pictures(outputs["labelled"])
    assert Counter(learnt[image]["label"] for _, image in labelled) == {"normal": 4, "pneumonia": 4}
    for caption, image in labelled:
        row = learnt[image]
        assert caption == f"{row['label']} ({row['confidence_score']:.2f}), truly {row['ground_truth']}"


def check_images(outputs: dict, root: Path) -> None:
    """The gallery's pictures are the arms' own, of the same seeds, and the table has every arm."""
    gallery = dict(pictures(outputs["gallery"]))
    for folder, arm in (("generated_images_no_fine_tuning", "baseline"), ("generated_images", "LoRA")):
        for row in read_rows(root / "results" / folder / "metadata.jsonl"):
            image = (root / "results" / folder / row["file_name"]).read_bytes()
            assert gallery.pop(f"{arm}: {row['label']}, seed {row['seed']}") == image
    assert not gallery
    sharpness = json.loads((root / "results/metrics/image_metrics.json").read_text())["lora"]["overall"][
        "sharpness"
    ]
    metrics = shown(outputs["metrics"], "text/markdown")
    assert f"{sharpness['value']:.3f} [{sharpness['ci95'][0]:.3f}, {sharpness['ci95'][1]:.3f}]" in metrics
    assert re.findall(r"^\| (\w+) \|", metrics, re.M)[1:] == ["real", "baseline", "lora", "dpm2"]


def check_report(outputs: dict, page: str) -> None:
    """The whole page stands in a frame, with its verdict."""
    shows = r'<div><iframe sandbox width="100%" height="800" srcdoc="([^"]*)"></iframe></div>'
    framed = re.fullmatch(shows, shown(outputs["report"], "text/html"))
    assert framed and html.unescape(framed[1]) == page
    assert re.search(r"<h3>.*Safe to share: (yes|no|not clear)</a>", html.unescape(framed[1]))


def check_download(outputs: dict, packed: Path, page: str) -> None:
    """The zip has the results, without what is only of use here."""
    assert packed.name in shown(outputs["download"], "text/html")
    with zipfile.ZipFile(packed) as file:
        names = file.namelist()
        assert file.read("results/report/index.html").decode() == page
    assert (
        "results/lora/pytorch_lora_weights.safetensors" in names and "results/.manifests/report.json" in names
    )
    assert not [name for name in names if re.match(r"results/\.(cache|training|dagster|staging|lock)", name)]


@runs
def test_it_runs_the_pipeline_and_shows_what_was_made(finished, hosted):
    """Nearly all stands already, so that little is computed; the page is made by the notebook's own run."""
    shutil.copytree(finished.root, hosted, dirs_exist_ok=True)
    write_profile(hosted / "small.toml", finished.profile)
    page = hosted / "results/report/index.html"
    page.unlink()
    outputs = execute(hosted.parent, "small.toml", "project")
    assert "No GPU is found; small.toml runs on the CPU." in shown(outputs["gpu"], "text")
    assert "report: computing (its files were changed or are gone)" in shown(outputs["run"], "text")
    check_labels(outputs, hosted)
    check_images(outputs, hosted)
    check_report(outputs, page.read_text(encoding="utf-8"))
    check_download(outputs, hosted.parent / "vdm_results.zip", page.read_text(encoding="utf-8"))


@runs
@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("sd15", r"No GPU is found, and sd15 needs one; choose a machine with a GPU, or set PROFILE"),
        ("small.toml", r"'make run' ended with exit code 2; the lines above say why\."),
    ],
)
def test_it_stops_where_it_cannot_go_on(hosted, profile, said):
    """Without a GPU for the profile that needs one; after a run that failed, for want of its archive."""
    from nbclient.exceptions import CellExecutionError

    write_profile(
        hosted / "small.toml",
        shrink(load_profile("demo"), data={"dataset": "pneumoniamnist", "source": "file"}),
    )
    with pytest.raises(CellExecutionError, match=said):
        execute(hosted.parent, profile, "project")
    assert not (hosted / "results/report").exists() and not (hosted.parent / "vdm_results.zip").exists()


def get(given: str) -> Path:
    """The folder that the notebook's cell finds the project in."""
    names: dict = {"SOURCE": given}
    exec(source("get"), names)
    return names["project"]


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A repository with the least that the notebook looks for, beside the folder where it runs."""
    folder = tmp_path / "clone"
    (folder / "vdm_pipeline").mkdir(parents=True)
    (folder / "vdm_pipeline/definitions.py").write_text("new")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    (tmp_path / "hosted").mkdir()
    monkeypatch.chdir(tmp_path / "hosted")
    return folder


def packed(clone: Path, prefix: str) -> str:
    """The zip that the notebook's text tells how to make; some sites put all in one folder."""
    (command,) = re.findall(r"`(git archive [^`]+)`", source("parameters-text"))
    subprocess.run([*command.split(), f"--prefix={prefix}"], cwd=clone, check=True)
    return str(clone / "vdm_pipeline.zip")


@pytest.mark.parametrize("prefix", ["", "vdm_pipeline-main/"])
def test_it_takes_a_zip_and_leaves_what_stands(clone, prefix):
    given = packed(clone, prefix)
    first = get(given)
    (first / "results").mkdir()
    (first / "vdm_pipeline/definitions.py").write_text("old")
    assert get(given) == first == Path("vdm_pipeline_project", prefix).resolve()
    assert (first / "vdm_pipeline/definitions.py").read_text() == "new" and (first / "results").is_dir()


def test_it_takes_a_repository_and_a_folder(clone):
    assert get(clone.as_uri()) == Path("vdm_pipeline_project").resolve()
    assert Path("vdm_pipeline_project/.git").is_dir()
    assert get(str(clone)) == clone and get("../clone") == clone


@pytest.mark.parametrize(
    ("given", "said"),
    [("gone.zip", "gone.zip is not here; upload it"), (".", "does not hold the project; take")],
)
def test_a_source_without_the_project_is_a_sentence(clone, given, said):
    with pytest.raises(FileNotFoundError, match=said):
        get(given)
