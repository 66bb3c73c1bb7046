"""The embedded autoencoder: AutoencoderKL, 64 x 64 x 3 to 8 x 8 x 4, on phantoms of both classes.

The loss is L1 on a Laplacian pyramid for structure. A small patch discriminator (hinge loss, feature
matching) joins after a third of the steps, for ribs and grain that a 16-fold compression would blur.
"""

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn

from vdm_pipeline.embedded.training.data import both_classes, to_tensor
from vdm_pipeline.embedded.training.loop import adamw, cosine, set_learning_rate, train, update
from vdm_pipeline.embedded.training.run import Run

CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": (16, 32, 64, 128),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 64,
}
STEPS = 8000
BATCH = 16
IMAGES_PER_CLASS = 12_000
KL_WEIGHT = 1e-6
ADVERSARIAL_WEIGHT = 0.05
FEATURE_WEIGHT = 0.4


class PatchDiscriminator(nn.Module):
    """Scores overlapping 22-pixel patches of a grey image; returns feature maps, the last is the score."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        convs = [
            nn.Conv2d(1, width, 4, 2, 1),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.Conv2d(2 * width, 4 * width, 3, 1, 1),
            nn.Conv2d(4 * width, 1, 3, 1, 1),
        ]
        self.layers = nn.ModuleList(nn.utils.parametrizations.spectral_norm(conv) for conv in convs)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of ``[n, 1, h, w]``, coarser and coarser."""
        features = []
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return [*features, self.layers[-1](x)]


def pyramid_l1(a: torch.Tensor, b: torch.Tensor, levels: int = 3) -> torch.Tensor:
    """L1 over the bands of a Laplacian pyramid, finer bands weighted more: edges count as much as tone."""
    total = F.l1_loss(a, b)
    for level in range(levels):
        small_a, small_b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        band_a = a - F.interpolate(small_a, scale_factor=2)
        band_b = b - F.interpolate(small_b, scale_factor=2)
        total = total + F.l1_loss(band_a, band_b) * (2.0 - 0.5 * level)
        a, b = small_a, small_b
    return total


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change tone, zoom, sharpness (as of 28 pixels) and side of a random part of the batch each.

    So the latents also suit images that are not phantoms.
    """
    n = len(x)
    chance = torch.rand(5, n, generator=generator, device=x.device)
    gain = torch.where(chance[0] < 0.5, 0.6 + 0.5 * chance[1], 1.0)[:, None, None, None]
    bias = torch.where(chance[0] < 0.5, 0.5 * (chance[2] - 0.5), 0.0)[:, None, None, None]
    x = (x * gain + bias).clamp(-1, 1)
    small = F.interpolate(x, 28, mode="area")
    blurred = F.interpolate(small, x.shape[-1], mode="bicubic", align_corners=False)
    x = torch.where((chance[3] < 0.2)[:, None, None, None], blurred.clamp(-1, 1), x)
    zoom = torch.where(chance[4] < 0.3, 0.75 + 0.25 * chance[1], 1.0)
    theta = torch.zeros(n, 2, 3, device=x.device)
    theta[:, 0, 0] = zoom * torch.where(chance[2] < 0.2, -1.0, 1.0)
    theta[:, 1, 1] = zoom
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(-1, 1)


def train_vae(run: Run) -> AutoencoderKL:
    """Train or resume, and return the autoencoder; its ``scaling_factor`` is 1 / std of the latents."""
    steps, data = run.scaled(STEPS), both_classes(run, run.scaled(IMAGES_PER_CLASS))
    torch.manual_seed(0)
    vae = AutoencoderKL(**CONFIG).to(run.device, memory_format=torch.channels_last)
    critic = PatchDiscriminator().to(run.device)
    optimizer = adamw(vae.parameters(), lr=1e-3, betas=(0.9, 0.99))
    critic_optimizer = adamw(critic.parameters(), lr=4e-4, betas=(0.5, 0.99))
    adversarial_from = steps // 3

    def step(index: int) -> dict[str, torch.Tensor]:
        generator = run.generator(index)
        rows = torch.randint(len(data), (BATCH,), generator=generator, device=run.device)
        x = augment(to_tensor(data[rows]), generator).contiguous(memory_format=torch.channels_last)
        set_learning_rate(optimizer, cosine(index, steps, 1.5e-3))
        with run.autocast():
            posterior = vae.encode(x).latent_dist
            decoded = vae.decode(posterior.sample(generator)).sample.float()
        loss = reconstruction = pyramid_l1(decoded, x) + KL_WEIGHT * posterior.kl().mean()
        l1 = F.l1_loss(decoded, x)
        report = {"reconstruction": reconstruction.detach(), "l1": l1.detach()}
        if index >= adversarial_from:
            fake, real = critic(decoded.mean(1, keepdim=True)), [f.detach() for f in critic(x[:, :1])]
            matching = sum(F.l1_loss(a, b) for a, b in zip(fake[:-1], real[:-1], strict=True))
            loss = loss + FEATURE_WEIGHT * matching - ADVERSARIAL_WEIGHT * fake[-1].mean()
        update(optimizer, loss, vae.parameters())
        if index >= adversarial_from - 200:
            real, fake = critic(x[:, :1])[-1], critic(decoded.detach().mean(1, keepdim=True))[-1]
            hinge = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
            critic_optimizer.zero_grad()
            hinge.backward()
            critic_optimizer.step()
            report["hinge"] = hinge.detach()
        return report

    modules, optimizers = {"vae": vae, "critic": critic}, {"vae": optimizer, "critic": critic_optimizer}
    train(step, run=run, stage="vae", steps=steps, modules=modules, optimizers=optimizers)
    vae.eval()
    vae.register_to_config(scaling_factor=1 / latent_std(vae, data[:: max(1, len(data) // 512)]))
    return vae


@torch.no_grad()
def latent_std(vae: AutoencoderKL, films: torch.Tensor) -> float:
    """Standard deviation over all latents of ``films``."""
    return float(vae.encode(to_tensor(films)).latent_dist.mean.std())
