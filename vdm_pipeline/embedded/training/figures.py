"""The figures of the model cards: ``python -m vdm_pipeline.embedded.training.figures``.

They are measured on phantoms that no training saw.
"""

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from vdm_pipeline.embedded.training.data import SEED, SIZE
from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.evaluation.metrics.images import sharpness
from vdm_pipeline.stages.evaluation.metrics.kernels import polynomial_kernel, squared_mmd
from vdm_pipeline.stages.generation.pipeline import Sampler
from vdm_pipeline.stages.generation.plan import main_arm
from vdm_pipeline.stages.labelling.calibration import softmax
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot, logits
from vdm_pipeline.stages.models.diffusion import encode_image, encode_prompts, load_component
from vdm_pipeline.stages.models.pins import EMBEDDED

COUNT = 512
CPU = torch.device("cpu")
SD = EMBEDDED / "sd"


def main() -> None:
    """Print one line per model."""
    pneumonia = np.arange(COUNT) % 2 == 1
    phantoms = render(SEED + 1, np.arange(COUNT), pneumonia, SIZE)
    healthy = render(SEED + 2, np.arange(COUNT), np.zeros(COUNT, bool), SIZE)
    labeller = ZeroShot(EMBEDDED / "clip", CPU)
    text = labeller.encode_prompts(load_profile("demo").labelling.prompts)
    scores = softmax(logits(labeller.embed(phantoms), text, labeller.scale))[:, 1]
    auc, accuracy = roc_auc_score(pneumonia, scores), balanced_accuracy_score(pneumonia, scores > 0.5)
    print(f"clip: ROC AUC {auc:.4f}, balanced accuracy {accuracy:.3f}")
    vae = load_component(SD, "vae")
    decoded = _decode(torch.stack([encode_image(vae, image, SIZE)[0] for image in phantoms]))
    error = np.abs(decoded.astype(float) - phantoms).mean()
    kept = _sharpness(decoded) / _sharpness(phantoms)
    print(f"sd/vae: mean error {error:.2f} of 255, {kept:.2f} of the phantoms' sharpness")
    first, second = healthy[: COUNT // 2], healthy[COUNT // 2 :]
    for name, images in {
        "phantoms": first,
        "sd, DDIM 50 steps": sample_base(),
        "sd + lcm_lora, 4 steps": sample_lcm(),
    }.items():
        scale = np.sqrt(text.shape[1])
        generated, real = (labeller.embed(x).astype(np.float64) * scale for x in (images, second))
        kid, kept = squared_mmd(generated, real, polynomial_kernel), _sharpness(images) / _sharpness(second)
        print(f"{name}: KID to healthy phantoms {kid:.3f}, {kept:.2f} of their sharpness")


@torch.inference_mode()
def sample_base(count: int = COUNT // 2) -> NDArray[np.uint8]:
    """Healthy images by only the base."""
    unet = load_component(SD, "unet")
    scheduler = DDIMScheduler.from_config(load_component(SD, "scheduler").config)
    scheduler.set_timesteps(50)
    condition = _condition(count)
    x = torch.randn(count, 4, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(0))
    for time in scheduler.timesteps:
        x = scheduler.step(unet(x, time, condition).sample, time, x).prev_sample
    return _decode(x)


def sample_lcm(count: int = COUNT // 2) -> NDArray[np.uint8]:
    """Healthy images by the base with the LCM-LoRA."""
    arm = main_arm(load_profile("demo"), SD, EMBEDDED / "lcm_lora", None)
    sampler = Sampler(arm, CPU, torch.float32, count, print)
    images = sampler.sample(_condition(count), range(count))
    return np.round(images.mean(-1) * 255).astype(np.uint8)


def _condition(count: int) -> torch.Tensor:
    return encode_prompts(SD, ["a chest X-ray, healthy lungs"], CPU, torch.float32).expand(count, -1, -1)


@torch.inference_mode()
def _decode(latents: torch.Tensor) -> NDArray[np.uint8]:
    vae = load_component(SD, "vae")
    images = torch.cat(
        [vae.decode(part / vae.config.scaling_factor).sample.mean(1) for part in latents.split(64)]
    )
    return np.round((images / 2 + 0.5).clamp(0, 1).numpy() * 255).astype(np.uint8)


def _sharpness(images: NDArray[np.uint8]) -> float:
    return float(np.mean(sharpness(images)))


if __name__ == "__main__":
    main()
