"""The text of docs/hosted_gpu.ipynb, what it shows when it runs, and that it stops at an error."""

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
from vdm_pipeline_tests.docs.notebook import NOTEBOOK, ROOT, cells, commands, execute, shown, source
from vdm_pipeline_tests.profiles import shrink, write_profile

PROJECT = ("Makefile", "pyproject.toml", "constraints.txt", "dagster.yaml", "workspace.yaml", "vdm_pipeline")
MISSING = [name for name in ("nbclient", "nbformat", "ipykernel") if importlib.util.find_spec(name) is None]
needs_kernel = pytest.mark.skipif(
    bool(MISSING) or not shutil.which("make"), reason=f"not installed: {', '.join(MISSING) or 'make'}"
)
PNG = re.compile(r'<img width="128" alt="([^"]+)" src="data:image/png;base64,([^"]+)">')


@pytest.mark.skipif("nbformat" in MISSING, reason="nbformat is not installed")
def test_notebook_is_valid():
    import nbformat

    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


def test_cells_are_short_without_output_and_have_an_explanation():
    all_cells = cells()
    kinds = [cell["cell_type"] for cell in all_cells]
    for index, cell in enumerate(all_cells):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            assert kinds[index - 1] == "markdown" and all_cells[index - 1]["source"]
            assert len(cell["source"]) <= 24, cell["id"]
    assert kinds.count("code") > 10


def test_commands_are_those_of_the_makefile_and_the_readme():
    install, run = "make install", "make run"
    makes = [command.split(" PYTHON=")[0] for command in commands() if command.startswith("make")]
    assert makes == [install, run]
    assert all(command.startswith(("make ", "apt-get install ")) for command in commands())
    assert "pip install -c constraints.txt -e" in dry_run(install)
    launch = "dg launch --assets '*report'"
    assert launch in dry_run(run) and launch in source("run-text")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert run in readme and launch.replace("report", "generated_images") in readme


def dry_run(command: str) -> str:
    """What make would run."""
    make = [*command.split(), "-n", "-B"]
    return subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("install", [True, False])
@pytest.mark.parametrize("complete", [True, False])
def test_install_cell_installs_if_requested(monkeypatch, install, complete):
    run: list[str] = []
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: find(name) if complete or name != "ensurepip" else None
    )
    exec(source("install"), {"INSTALL": install, "sh": run.append})
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    apt = [] if complete else [f"apt-get install -y -q python{version}-venv"]
    assert run == ([*apt, f"make install PYTHON={sys.executable}"] if install else [])


def copy(folder: Path) -> Path:
    """Copy the project like a clone, with this environment as its ``.venv``."""
    (folder / ".venv").mkdir(parents=True)
    for name in PROJECT:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name)
        else:
            shutil.copy(path, folder)
    for part in ("bin", "lib", "pyvenv.cfg"):
        (folder / ".venv" / part).symlink_to(Path(sys.prefix) / part)
    (folder / ".venv/.installed").touch()
    return folder


@pytest.fixture
def hosted(tmp_path, monkeypatch) -> Path:
    """The project beside the folder where the notebook runs, without a GPU and offline."""
    project = copy(tmp_path / "hosted/project")
    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHON", "false")  # make must not install: it would fail, and leave .venv as it is
    for name in ("VDM_PROFILE", "VDM_ROOT", "VDM_FORCE"):
        monkeypatch.delenv(name, raising=False)
    return project


def images(outputs: list) -> list[tuple[str, bytes]]:
    """Captions and bytes of the images in a cell's HTML."""
    return [
        (html.unescape(alt), base64.b64decode(png)) for alt, png in PNG.findall(shown(outputs, "text/html"))
    ]


def check_labels(outputs: dict, root: Path) -> None:
    """Counts, metrics and images are those of the files."""
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
    by_image = {(subset / row["file_name"]).read_bytes(): row for row in read_rows(subset / "metadata.jsonl")}
    labelled = images(outputs["labelled"])
    assert Counter(by_image[image]["label"] for _, image in labelled) == {"normal": 4, "pneumonia": 4}
    for caption, image in labelled:
        row = by_image[image]
        probability = f"{row['confidence_score']:.2f}"
        assert caption == f"{row['label']} ({probability}), dataset: {row['ground_truth']}"


def check_images(outputs: dict, root: Path) -> None:
    """The gallery shows the images of both arms with the same seeds, and the table has every arm."""
    gallery = dict(images(outputs["gallery"]))
    for folder, arm in (("generated_images_no_fine_tuning", "baseline"), ("generated_images", "LoRA")):
        for row in read_rows(root / "results" / folder / "metadata.jsonl"):
            image = (root / "results" / folder / row["file_name"]).read_bytes()
            assert gallery.pop(f"{arm}: {row['label']}, seed {row['seed']}") == image
    assert not gallery
    figures = json.loads((root / "results/metrics/image_metrics.json").read_text())["lora"]["overall"]
    low, high = figures["sharpness"]["ci95"]
    metrics = shown(outputs["metrics"], "text/markdown")
    assert f"{figures['sharpness']['value']:.3f} [{low:.3f}, {high:.3f}]" in metrics
    assert re.findall(r"^\| (\w+) \|", metrics, re.M)[1:] == ["real", "baseline", "lora", "dpm2"]


def check_report(outputs: dict, page: str) -> None:
    """The frame shows the whole page with its verdict."""
    frame = r'<div><iframe sandbox width="100%" height="800" srcdoc="([^"]*)"></iframe></div>'
    match = re.fullmatch(frame, shown(outputs["report"], "text/html"))
    assert match and html.unescape(match[1]) == page
    assert re.search(
        r"<h3>.*Copies of training images</a> <span class=\"tag\">(none found|found|cannot tell)<",
        html.unescape(match[1]),
    )


def check_download(outputs: dict, packed: Path, page: str) -> None:
    """The zip contains the results, without caches and checkpoints."""
    assert packed.name in shown(outputs["download"], "text/html")
    with zipfile.ZipFile(packed) as file:
        names = file.namelist()
        assert file.read("results/report/index.html").decode() == page
    assert "results/lora/pytorch_lora_weights.safetensors" in names
    assert "results/.manifests/report.json" in names
    assert not [name for name in names if re.match(r"results/\.(cache|training|dagster|staging|lock)", name)]


@pytest.mark.slow
@needs_kernel
def test_notebook_runs_the_pipeline_and_shows_the_results(finished, hosted):
    """Only the report is missing, and computed by the notebook."""
    shutil.copytree(finished.root, hosted, dirs_exist_ok=True)
    write_profile(hosted / "small.toml", finished.profile)
    page = hosted / "results/report/index.html"
    page.unlink()
    outputs = execute(hosted.parent, "small.toml", "project")
    assert "There is no GPU; small.toml runs on the CPU." in shown(outputs["gpu"], "text")
    assert "✓ report: " in shown(outputs["run"], "text")
    check_labels(outputs, hosted)
    check_images(outputs, hosted)
    check_report(outputs, page.read_text(encoding="utf-8"))
    check_download(outputs, hosted.parent / "vdm_results.zip", page.read_text(encoding="utf-8"))


@pytest.mark.slow
@needs_kernel
@pytest.mark.parametrize(
    ("profile", "error"),
    [("sd15", "There is no GPU, and sd15 needs one"), ("small.toml", "'make run' failed")],
)
def test_notebook_stops_at_an_error(hosted, profile, error):
    """Without a GPU for a profile that needs one, and after a run without its archive."""
    from nbclient.exceptions import CellExecutionError

    write_profile(
        hosted / "small.toml",
        shrink(load_profile("demo"), data={"dataset": "pneumoniamnist", "source": "file"}),
    )
    with pytest.raises(CellExecutionError, match=error):
        execute(hosted.parent, profile, "project")
    assert not (hosted / "results/report").exists() and not (hosted.parent / "vdm_results.zip").exists()
