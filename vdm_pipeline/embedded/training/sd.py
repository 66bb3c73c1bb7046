"""The embedded Stable Diffusion base: UNet and text encoder, trained only on latents of healthy phantoms.

It has seen no pathology, so the effect of a LoRA can be seen and measured.

The text encoder keeps its random initial weights. Trained together with the UNet on captions that all mean
the same, it collapses: every caption gets the same embedding, and no LoRA on the UNet can then distinguish
the classes.
"""

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from vdm_pipeline.embedded.training.data import healthy_films, to_tensor
from vdm_pipeline.embedded.training.loop import adamw, cosine, set_learning_rate, train, update
from vdm_pipeline.embedded.training.run import Run
from vdm_pipeline.embedded.training.text import CONTEXT, captions, tokenizer, tokens
from vdm_pipeline.io.atomic import atomic_file

WIDTH = 96
UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (96, 128),
    "layers_per_block": 1,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,  # diffusers reads this as the number of heads
    "norm_num_groups": 16,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
}
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "prediction_type": "epsilon",
    "steps_offset": 1,
}
STEPS = 6000
BATCH = 64
HEALTHY_IMAGES = 24_000
EMA = 0.998
DROPPED = 0.1
"""Share of empty captions, so that classifier-free guidance works."""
GAMMA = 5.0
"""Min-SNR weighting (Hang et al., arXiv 2303.09556).

Timesteps with little noise do not outweigh those that decide the anatomy.
"""


def text_encoder() -> CLIPTextModel:
    """A two-layer CLIP text model of width 96 over the small vocabulary."""
    vocabulary = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        bos_token_id=vocabulary.bos_token_id,
        eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id,
    )
    return CLIPTextModel(config)


@torch.no_grad()
def latents(run: Run, vae: AutoencoderKL) -> torch.Tensor:
    """Scaled posterior moments of healthy films, ``[n, 2 * channels, side, side]``: means, then stds.

    They are kept beside the checkpoints of the autoencoder, and go with them.
    """
    path = run.work / "vae" / "latents.npy"
    if not path.exists():
        parts = []
        for films in healthy_films(run, run.scaled(HEALTHY_IMAGES)).split(250):
            posterior = vae.encode(to_tensor(films)).latent_dist
            parts.append(torch.cat([posterior.mean, posterior.std], 1) * vae.config.scaling_factor)
        with atomic_file(path) as temporary:
            np.save(temporary, torch.cat(parts).cpu().numpy())
    return torch.from_numpy(np.load(path, allow_pickle=False)).to(run.device)


def train_sd(run: Run, vae: AutoencoderKL) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Train, or resume the training, and return the averaged UNet and the text encoder."""
    steps, moments = run.scaled(STEPS), latents(run, vae)
    torch.manual_seed(2)
    unet, average, text = UNet2DConditionModel(**UNET), UNet2DConditionModel(**UNET), text_encoder()
    unet.to(run.device, memory_format=torch.channels_last)
    average.to(run.device).load_state_dict(unet.state_dict())
    text.to(run.device).requires_grad_(False).eval()
    optimizer = adamw(unet.parameters(), lr=6e-4, betas=(0.9, 0.99), weight_decay=0.01)
    scheduler = DDPMScheduler(**SCHEDULE)
    snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    weight = (snr.clamp(max=GAMMA) / snr).to(run.device)
    with torch.no_grad():
        known = text(tokens(["", *captions(False)]).to(run.device)).last_hidden_state

    def step(index: int) -> dict[str, torch.Tensor]:
        generator, device = run.generator(index), run.device
        rows = torch.randint(len(moments), (BATCH,), generator=generator, device=device)
        mean, std = moments[rows].chunk(2, 1)
        x = mean + std * torch.randn(mean.shape, generator=generator, device=device)
        caption = torch.randint(1, len(known), (BATCH,), generator=generator, device=device)
        caption[torch.rand(BATCH, generator=generator, device=device) < DROPPED] = 0
        time = torch.randint(1000, (BATCH,), generator=generator, device=device)
        noise = torch.randn(x.shape, generator=generator, device=device)
        set_learning_rate(optimizer, cosine(index, steps, 8e-4))
        noisy = scheduler.add_noise(x, noise, time).contiguous(memory_format=torch.channels_last)
        with run.autocast():
            predicted = unet(noisy, time, known[caption]).sample.float()
        loss = (weight[time] * ((predicted - noise) ** 2).mean((1, 2, 3))).mean()
        update(optimizer, loss, unet.parameters())
        decay = min(EMA, (1 + index) / (10 + index))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1 - decay)
        return {"loss": loss.detach()}

    modules, optimizers = {"unet": unet, "average": average, "text": text}, {"sd": optimizer}
    train(step, run=run, stage="sd", steps=steps, modules=modules, optimizers=optimizers)
    return average.eval(), text.eval()
