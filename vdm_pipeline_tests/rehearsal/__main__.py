"""The large profile from end to end, before a GPU is paid for: ``python -m vdm_pipeline_tests.rehearsal FOLDER [--images 2] [--steps 3]``.

Writes the five repositories of the `sd15` profile with random weights (12 GB with what is downloaded of them, kept in FOLDER for the
next time), serves them from a hub on this machine, and materializes every asset on few rendered films, images and steps at the
profile's own sizes, models and precision, on the GPU if there is one. What it draws is noise; what it prints is memory and time.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.io.manifest import read_manifest
from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline_tests.conftest import write_profile
from vdm_pipeline_tests.hub import COMMIT, serving
from vdm_pipeline_tests.paths import ROOT
from vdm_pipeline_tests.rehearsal import repositories as write

LCM = "latent-consistency/lcm-lora-sdv1-5"


def make_repositories(folder: Path, profile: Profile) -> dict[str, Path]:
    """Folders by id; one that is there is taken as it is."""
    ids = {role: pin.id for role, pin in profile.models().items()}
    places = {name: folder / name.replace("/", "--") for name in ids.values()}
    bert = places[ids["labeller_text"]]
    makers = {
        ids["labeller_text"]: write.write_biomedbert,
        ids["labeller"]: lambda place: write.write_biomedclip(place, bert),
        ids["base"]: write.write_sd15,
        ids["lcm_lora"]: write.write_lcm_lora,
        ids["features"]: write.write_dinov2,
    }
    for name, make in makers.items():
        whole = places[name] / ".whole"
        if not whole.exists():
            print(f"writing {name}", flush=True)
            make(places[name])
            whole.touch()
    return places


def rehearsed(profile: Profile, places: dict[str, Path], images: int, steps: int) -> Profile:
    """The profile with few films, images and steps; random labels are not to stop it, so captions are from the true ones."""
    values = profile.model_dump(mode="json")
    pins = [values["labelling"]["model"], values["labelling"]["text_model"], values["training"]["base"]]
    for pin in (*pins, values["generation"]["lcm_lora"], values["evaluation"]["features"]):
        pin["weights"] = {name: file_sha256(places[pin["id"]] / name) for name in pin["weights"]}
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


def main() -> int:
    """Write, serve, materialize, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=2, help="images of each class and arm")
    parser.add_argument("--steps", type=int, default=3, help="training steps")
    asked = parser.parse_args()
    profile, root = load_profile("sd15"), asked.folder.resolve() / "project"
    places = make_repositories(asked.folder.resolve() / "repositories", profile)
    (root / "data").mkdir(parents=True, exist_ok=True)
    profile_file = write_profile(
        root / "rehearsal.toml", rehearsed(profile, places, asked.images, asked.steps)
    )
    with serving(places) as hub:
        home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(asked.folder.resolve() / "hub"), "no_proxy": "*"}
        own = {"VDM_PROFILE": str(profile_file), "VDM_ROOT": str(root), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "vdm_pipeline.definitions"]
        done = subprocess.run([*command, "--select", "*report"], cwd=root, env=os.environ | home | own)
    print("\n| asset | seconds | peak memory, MB | of the GPU, MB | images a second |\n|---|---|---|---|---|")
    for path in sorted((root / "results/.manifests").glob("*.json"), key=lambda path: path.stat().st_mtime):
        if not path.name.endswith(".checks.json") and (record := read_manifest(path)):
            facts = [str(record.metadata.get(name, "")) for name in ("device_peak_memory_mb", "images_per_s")]
            print(
                f"| `{record.asset}` | {record.seconds:.1f} | {record.peak_memory_mb:.0f} | {' | '.join(facts)} |"
            )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
