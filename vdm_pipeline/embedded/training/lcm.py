"""The embedded LCM-LoRA: latent consistency distillation (Luo et al., arXiv 2311.05556) of the embedded base.

The student is the base with a LoRA, the teacher the base without it. A step of the DDIM solver covers 20
timesteps. The target is the student itself, without gradient. The base follows its text weakly, so no
guidance is distilled.
"""

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig
from transformers import CLIPTextModel

from vdm_pipeline.embedded.training.loop import adamw, cosine, set_learning_rate, train, update
from vdm_pipeline.embedded.training.run import Run
from vdm_pipeline.embedded.training.sd import SCHEDULE, latents
from vdm_pipeline.embedded.training.text import captions, tokens

RANK = 6
TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
    "proj_in",
    "proj_out",
)
SOLVER_STEPS = 50
STEPS = 1500
BATCH = 48
HUBER = 1e-3
TIMESTEP_SCALING, SIGMA_DATA = 10.0, 0.5
"""Boundary condition of LCM, as in diffusers' LCMScheduler."""


def boundary(time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``c_skip`` and ``c_out`` of a consistency model (Song et al., 2023), so that f(x, 0) = x."""
    scaled = (time * TIMESTEP_SCALING).float()[:, None, None, None]
    square = scaled**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / square, scaled / square.sqrt()


class Consistency:
    """Consistency function and DDIM solver over one noise schedule."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.alphas = DDPMScheduler(**SCHEDULE).alphas_cumprod.to(device)

    def clean(self, noise: torch.Tensor, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The clean latent that a noise prediction implies."""
        alpha = self.alphas[time][:, None, None, None]
        return (x - (1 - alpha).sqrt() * noise) / alpha.sqrt()

    def student(self, noise: torch.Tensor, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The consistency function f(x, t)."""
        skip, out = boundary(time)
        return skip * x + out * self.clean(noise, x, time)

    def ddim(
        self, noise: torch.Tensor, x: torch.Tensor, time: torch.Tensor, earlier: torch.Tensor
    ) -> torch.Tensor:
        """One deterministic step from ``time`` to ``earlier``."""
        alpha = torch.where(earlier >= 0, self.alphas[earlier.clamp_min(0)], 1.0)
        alpha = alpha[:, None, None, None]
        return alpha.sqrt() * self.clean(noise, x, time) + (1 - alpha).sqrt() * noise


def add_lcm_adapter(unet: UNet2DConditionModel) -> torch.nn.ParameterDict:
    """Freeze the UNet, add the adapter ``lcm``, and return its parameters."""
    unet.requires_grad_(False)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGETS), init_lora_weights="gaussian")
    unet.add_adapter(config, "lcm")
    trainable = {name: value for name, value in unet.named_parameters() if value.requires_grad}
    return torch.nn.ParameterDict({name.replace(".", "/"): value for name, value in trainable.items()})


def predict_noise(
    run: Run, unet: UNet2DConditionModel, x: torch.Tensor, time: torch.Tensor, condition: torch.Tensor
) -> torch.Tensor:
    """The UNet's noise prediction, computed in the run's precision, as fp32."""
    with run.autocast():
        return unet(x, time, condition).sample.float()


def train_lcm(
    run: Run, vae: AutoencoderKL, unet: UNet2DConditionModel, text: CLIPTextModel
) -> UNet2DConditionModel:
    """Train or resume, and return ``unet`` with the adapter ``lcm``."""
    steps, moments = run.scaled(STEPS), latents(run, vae)
    torch.manual_seed(3)
    adapter = add_lcm_adapter(unet)
    optimizer = adamw(adapter.parameters(), lr=1e-3, betas=(0.9, 0.99))
    consistency = Consistency(run.device)
    with torch.no_grad():
        known = text(tokens(captions(False)).to(run.device)).last_hidden_state

    def step(index: int) -> dict[str, torch.Tensor]:
        generator, device = run.generator(10_000_000 + index), run.device
        rows = torch.randint(len(moments), (BATCH,), generator=generator, device=device)
        mean, std = moments[rows].chunk(2, 1)
        x = mean + std * torch.randn(mean.shape, generator=generator, device=device)
        condition = known[torch.randint(len(known), (BATCH,), generator=generator, device=device)]
        jump = 1000 // SOLVER_STEPS
        time = (torch.randint(SOLVER_STEPS, (BATCH,), generator=generator, device=device) + 1) * jump - 1
        earlier = time - jump
        noise = torch.randn(x.shape, generator=generator, device=device)
        alpha = consistency.alphas[time][:, None, None, None]
        noisy = alpha.sqrt() * x + (1 - alpha).sqrt() * noise
        set_learning_rate(optimizer, cosine(index, steps, 1e-3))
        predicted = consistency.student(predict_noise(run, unet, noisy, time, condition), noisy, time)
        with torch.no_grad():
            unet.disable_adapters()
            stepped = consistency.ddim(predict_noise(run, unet, noisy, time, condition), noisy, time, earlier)
            unet.enable_adapters()
            floor = earlier.clamp_min(0)
            target = consistency.student(predict_noise(run, unet, stepped, floor, condition), stepped, floor)
            target = torch.where((earlier < 0)[:, None, None, None], stepped, target)
        loss = (((predicted - target) ** 2 + HUBER**2).sqrt() - HUBER).mean()
        update(optimizer, loss, adapter.parameters())
        return {"loss": loss.detach()}

    modules, optimizers = {"lcm": adapter}, {"lcm": optimizer}
    train(step, run=run, stage="lcm", steps=steps, modules=modules, optimizers=optimizers)
    return unet.eval()
