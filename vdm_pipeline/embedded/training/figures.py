"""Measure the embedded models, and write figures.json and the model cards.

The figures are of rendered phantoms that no training saw and, with --real, of real X-rays. Without --real,
those of a former measurement stay as long as the labeller is the same.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from vdm_pipeline.embedded.training.cards import read_figures, write_cards, write_figures
from vdm_pipeline.embedded.training.films import SEED, SIZE
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.hashing import folder_digest
from vdm_pipeline.settings import EMBEDDED, load_profile
from vdm_pipeline.stages.data.archive import read_archive
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.evaluation.metrics.images import sharpness
from vdm_pipeline.stages.evaluation.metrics.kernels import polynomial_kernel, squared_mmd
from vdm_pipeline.stages.evaluation.metrics.labels import label_report
from vdm_pipeline.stages.generation.pipeline import Sampler
from vdm_pipeline.stages.generation.plan import main_arm
from vdm_pipeline.stages.labelling.calibration import softmax
from vdm_pipeline.stages.labelling.labels import label_archive
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot, logits
from vdm_pipeline.stages.models.diffusion import encode_image, encode_prompts, load_component
from vdm_pipeline.stages.runtime.device import pick_device

COUNT = 512
DDIM_STEPS = 50
Images = NDArray[np.uint8]


def measure(models: Path, device: torch.device, count: int, real: Path | None) -> None:
    """Measure the models on ``count`` phantoms and the archive ``real``; write figures.json and the cards.

    Raises `PipelineError` if the archive cannot be used.
    """
    figures = read_figures(models)
    labeller = ZeroShot(models / "clip", device)
    digest = folder_digest(models / "clip")
    if real is not None:
        figures["pneumoniamnist"] = {"labeller": digest, "test": measure_real(labeller, real)}
    elif figures.get("pneumoniamnist", {}).get("labeller") != digest:
        figures.pop("pneumoniamnist", None)
    figures["phantoms"] = measure_phantoms(models, labeller, count)
    write_figures(models, figures)
    write_cards(models)


def measure_phantoms(models: Path, labeller: ZeroShot, count: int) -> dict[str, Any]:
    """Figures of each model on ``count`` phantoms, and on half as many generated images."""
    pneumonia, half = np.arange(count) % 2 == 1, count // 2
    phantoms = render(SEED + 1, np.arange(count), pneumonia, SIZE)
    healthy = render(SEED + 2, np.arange(count), np.zeros(count, bool), SIZE)
    text = labeller.encode_prompts(load_profile("demo").labelling.prompts)
    embeddings = labeller.embed(phantoms)
    scores = softmax(logits(embeddings, text, labeller.scale))[:, 1]
    cosines, same_class = embeddings @ embeddings.T, pneumonia[:, None] == pneumonia
    figures: dict[str, Any] = {"count": count, "generated": half, "ddim_steps": DDIM_STEPS}
    figures["clip"] = {
        "roc_auc": float(roc_auc_score(pneumonia, scores)),
        "balanced_accuracy": float(balanced_accuracy_score(pneumonia, scores > 0.5)),
        "median_cosine_within_class": float(np.median(cosines[same_class & ~np.eye(count, dtype=bool)])),
    }
    decoded = reconstruct(models / "sd", phantoms, labeller.device)
    figures["vae"] = {
        "mean_error": float(np.abs(decoded.astype(float) - phantoms).mean()),
        "sharpness": _sharpness(decoded) / _sharpness(phantoms),
    }
    first, second = healthy[:half], healthy[half:]
    generated = {
        "phantoms": first,
        "sd": sample_base(models / "sd", half, labeller.device),
        "lcm_lora": sample_lcm(models, half, labeller.device),
    }
    real = _features(labeller, second)
    for name, images in generated.items():
        distance = squared_mmd(_features(labeller, images), real, polynomial_kernel)
        figures[name] = {"kernel_distance": distance, "sharpness": _sharpness(images) / _sharpness(second)}
    figures["lcm_lora"]["steps"] = load_profile("demo").generation.num_inference_steps
    return figures


def measure_real(labeller: ZeroShot, path: Path) -> dict[str, Any]:
    """Figures of the labeller on the test split of PneumoniaMNIST; val calibrates it, as in the pipeline."""
    profile = load_profile("pneumoniamnist")
    archive, names = read_archive(path, profile.data, profile.classes.names), profile.classes.names
    text = labeller.encode_prompts(profile.labelling.prompts)
    table, _ = label_archive(
        archive,
        lambda split: [labeller.embed(archive.splits[split].images)],
        text,
        labeller.scale,
        profile.labelling,
        names,
    )
    test = label_report(table[table["split"] == "test"], names)["test"]
    keys = ("roc_auc", "roc_auc_ci95", "balanced_accuracy", "balanced_accuracy_ci95")
    argmax = test["uncalibrated"]["balanced_accuracy"]
    return {key: test[key] for key in keys} | {"argmax_balanced_accuracy": argmax}


def reconstruct(base: Path, images: Images, device: torch.device) -> Images:
    """The images, encoded and decoded."""
    vae = load_component(base, "vae").to(device)
    return _decode(vae, torch.stack([encode_image(vae, image, SIZE)[0] for image in images]))


@torch.inference_mode()
def sample_base(base: Path, count: int, device: torch.device) -> Images:
    """Healthy images by only the base."""
    unet, vae = (load_component(base, name).to(device) for name in ("unet", "vae"))
    scheduler = DDIMScheduler.from_config(load_component(base, "scheduler").config)
    scheduler.set_timesteps(DDIM_STEPS)
    condition, side = _condition(base, count, device), unet.config.sample_size
    noise = torch.randn(
        count, unet.config.in_channels, side, side, generator=torch.Generator().manual_seed(0)
    )
    x = noise.to(device)
    for time in scheduler.timesteps:
        x = scheduler.step(unet(x, time, condition).sample, time, x).prev_sample
    return _decode(vae, x)


def sample_lcm(models: Path, count: int, device: torch.device) -> Images:
    """Healthy images by the base with the LCM-LoRA."""
    arm = main_arm(load_profile("demo"), models / "sd", models / "lcm_lora", None)
    sampler = Sampler(arm, device, torch.float32, count, print)
    images = sampler.sample(_condition(models / "sd", count, device), range(count))
    return np.round(images.mean(-1) * 255).astype(np.uint8)


def _condition(base: Path, count: int, device: torch.device) -> torch.Tensor:
    prompt = ["a chest X-ray, healthy lungs"]
    return encode_prompts(base, prompt, device, torch.float32).expand(count, -1, -1)


@torch.inference_mode()
def _decode(vae: Any, latents: torch.Tensor) -> Images:
    parts = (latents.to(vae.device) / vae.config.scaling_factor).split(64)
    images = torch.cat([vae.decode(part).sample.mean(1) for part in parts])
    return np.round((images / 2 + 0.5).clamp(0, 1).cpu().numpy() * 255).astype(np.uint8)


def _features(labeller: ZeroShot, images: Images) -> NDArray[np.float64]:
    """Embeddings with a mean square of 1 per row."""
    embeddings = labeller.embed(images).astype(np.float64)
    return embeddings * np.sqrt(embeddings.shape[1])


def _sharpness(images: Images) -> float:
    return float(np.mean(sharpness(images)))


def main(arguments: list[str]) -> int:
    """Measure models and write their cards. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m vdm_pipeline.embedded.training.figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", type=Path, default=EMBEDDED, help="their folder; default: the package's")
    parser.add_argument("--real", type=Path, metavar="NPZ", help="pneumoniamnist.npz of 28 pixels")
    options = parser.parse_args(arguments)
    try:
        measure(options.models, pick_device("auto"), COUNT, options.real)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
