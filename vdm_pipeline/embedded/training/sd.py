"""The embedded Stable Diffusion base: UNet and text encoder, trained only on latents of healthy phantoms.

It has seen no pathology, so the effect of a LoRA can be seen and measured.

The text encoder keeps its random initial weights. Trained together with the UNet on captions that all mean
the same, it collapses: every caption gets the same embedding, and no LoRA on the UNet can then distinguish
the classes.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from vdm_pipeline.embedded.training.data import phantom_images, to_tensor
from vdm_pipeline.embedded.training.loop import cosine, set_learning_rate, train, update
from vdm_pipeline.embedded.training.text import CONTEXT, captions, tokenizer

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


def tokens(texts: list[str]) -> torch.Tensor:
    """Token ids ``[n, 77]``, padded and truncated as Stable Diffusion does."""
    encoded = tokenizer()(texts, padding="max_length", truncation=True, max_length=CONTEXT)
    return torch.tensor(encoded["input_ids"])


@torch.no_grad()
def latents(work: Path, vae: AutoencoderKL, count: int = HEALTHY_IMAGES) -> torch.Tensor:
    """Scaled posterior moments of healthy phantoms, ``[count, 8, 8, 8]``: 4 channels of mean, 4 of std."""
    path = work / "latents.npy"
    if not path.exists():
        parts = []
        for first in range(0, count, 12_000):
            data = phantom_images(work, 12_000, pneumonia=False, first=first)
            for start in range(0, len(data), 250):
                posterior = vae.encode(to_tensor(data[start : start + 250])).latent_dist
                parts.append(torch.cat([posterior.mean, posterior.std], 1) * vae.config.scaling_factor)
        np.save(path, torch.cat(parts).numpy())
    return torch.from_numpy(np.load(path, allow_pickle=False))


def train_sd(work: Path, vae: AutoencoderKL, steps: int = 6000) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Train, or resume the training, and return the averaged UNet and the text encoder."""
    moments = latents(work, vae)
    torch.manual_seed(2)
    unet, average, text = UNet2DConditionModel(**UNET), UNet2DConditionModel(**UNET), text_encoder()
    unet.to(memory_format=torch.channels_last)
    average.load_state_dict(unet.state_dict())
    text.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=6e-4, betas=(0.9, 0.99), weight_decay=0.01)
    scheduler = DDPMScheduler(**SCHEDULE)
    snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    weight = snr.clamp(max=GAMMA) / snr
    known = tokens(["", *captions(False)])

    def step(index: int) -> dict[str, float]:
        generator = torch.Generator().manual_seed(index)
        rows = torch.randint(len(moments), (BATCH,), generator=generator)
        mean, std = moments[rows].chunk(2, 1)
        x = mean + std * torch.randn(mean.shape, generator=generator)
        caption = torch.randint(1, len(known), (BATCH,), generator=generator)
        caption[torch.rand(BATCH, generator=generator) < DROPPED] = 0
        distinct, index_in_distinct = caption.unique(return_inverse=True)
        time = torch.randint(1000, (BATCH,), generator=generator)
        noise = torch.randn(x.shape, generator=generator)
        set_learning_rate(optimizer, cosine(index, steps, 8e-4))
        condition = text(known[distinct]).last_hidden_state[index_in_distinct]
        noisy = scheduler.add_noise(x, noise, time).contiguous(memory_format=torch.channels_last)
        predicted = unet(noisy, time, condition).sample
        loss = (weight[time] * ((predicted - noise) ** 2).mean((1, 2, 3))).mean()
        update(optimizer, loss, unet.parameters())
        decay = min(EMA, (1 + index) / (10 + index))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1 - decay)
        return {"loss": float(loss.detach())}

    modules = {"unet": unet, "average": average, "text": text}
    train(step, steps=steps, modules=modules, optimizers={"sd": optimizer}, checkpoint=work / "sd")
    return average.eval(), text.eval()
