"""The large profile from end to end with random weights: ``python -m vdm_pipeline_tests.rehearsal FOLDER``.

Writes the five repositories of the ``sd15`` profile with random weights, serves them from a hub on this
machine, and materializes every asset with few rendered X-rays, images and steps, at the profile's own sizes,
models and precision, on the GPU if there is one. The repositories and the downloads take 12 GB; they stay in
FOLDER for the next run. The images are noise; the output is memory and time.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.io.manifest import read_manifest
from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline_tests.hub import COMMIT, serving
from vdm_pipeline_tests.paths import ROOT, make_project
from vdm_pipeline_tests.profiles import write_profile
from vdm_pipeline_tests.rehearsal import repositories


def make_repositories(folder: Path, profile: Profile) -> dict[str, Path]:
    """Write the profile's repositories, unless they exist; returns their folders by id."""
    ids = {role: pin.id for role, pin in profile.models().items()}
    folders = {name: folder / name.replace("/", "--") for name in ids.values()}
    bert = folders[ids["labeller_text"]]
    writers: dict[str, Callable[[Path], Path]] = {
        ids["labeller_text"]: repositories.write_biomedbert,
        ids["labeller"]: lambda path: repositories.write_biomedclip(path, bert),
        ids["base"]: repositories.write_sd15,
        ids["lcm_lora"]: repositories.write_lcm_lora,
        ids["features"]: repositories.write_dinov2,
    }
    for name, write in writers.items():
        complete = folders[name] / ".complete"
        if not complete.exists():
            print(f"writing {name}", flush=True)
            write(folders[name])
            complete.touch()
    return folders


def small_profile(profile: Profile, folders: dict[str, Path], images: int, steps: int) -> Profile:
    """The profile with few X-rays, images and steps.

    The labels of random weights would fail a check, so the captions come from the archive's labels.
    """
    values = profile.model_dump(mode="json")
    pins = [values["labelling"]["model"], values["labelling"]["text_model"], values["training"]["base"]]
    for pin in (*pins, values["generation"]["lcm_lora"], values["evaluation"]["features"]):
        pin["weights"] = {name: file_sha256(folders[pin["id"]] / name) for name in pin["weights"]}
        pin["revision"] = COMMIT
    changes = {
        "data": {"dataset": "phantom", "source": "phantom", "train": 128, "val": 32, "test": 32},
        "labelling": {"calibration": "prior", "prior": [0.5, 0.5], "decision": "argmax"},
        "subset": {"per_class": 4, "captions_from": "ground_truth", "validation_per_class": 1},
        "training": {"max_train_steps": steps, "lr_warmup_steps": 0, "rank": 16, "alpha": 16},
        "generation": {"per_class": images},
        "evaluation": {"bootstrap": 50, "utility_epochs": 1, "utility_seeds": 1, "judge_epochs": 1},
        "execution": {"log_every": 1, "validate_every": 0},
    }
    for section, new in changes.items():
        values[section] |= new
    return Profile.model_validate_json(json.dumps(values | {"name": "rehearsal of sd15, random weights"}))


def materialize(folder: Path, images: int, steps: int) -> int:
    """Write and serve the repositories, and materialize everything; returns the exit code."""
    profile, root = load_profile("sd15"), folder / "project"
    folders = make_repositories(folder / "repositories", profile)
    (root / "data").mkdir(parents=True, exist_ok=True)
    profile_file = write_profile(root / "rehearsal.toml", small_profile(profile, folders, images, steps))
    with serving(folders) as hub:
        hub_variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hub"), "no_proxy": "*"}
        own = {"VDM_PROFILE": str(profile_file), "VDM_ROOT": str(root), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", "*report"]
        environment = os.environ | hub_variables | own
        return subprocess.run(command, cwd=make_project(root), env=environment).returncode


def print_costs(manifests: Path) -> None:
    """Print time and memory of every asset, in the order in which they were computed."""
    print("\n| asset | seconds | peak memory, MB | of the GPU, MB | images/s |\n|---|---|---|---|---|")
    for path in sorted(manifests.glob("*.json"), key=lambda path: path.stat().st_mtime):
        if path.name.endswith(".checks.json"):
            continue
        manifest = read_manifest(path)
        if manifest:
            facts = [str(manifest.metadata.get(key, "")) for key in ("device_peak_memory_mb", "images_per_s")]
            cells = [f"{manifest.seconds:.1f}", f"{manifest.peak_memory_mb:.0f}", *facts]
            print(f"| `{manifest.asset}` | {' | '.join(cells)} |")


def main() -> int:
    """Write, serve, materialize, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=2, help="images of each class and arm")
    parser.add_argument("--steps", type=int, default=3, help="training steps")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    code = materialize(folder, arguments.images, arguments.steps)
    print_costs(folder / "project/results/.manifests")
    return code


if __name__ == "__main__":
    sys.exit(main())
