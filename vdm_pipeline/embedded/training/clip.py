"""The embedded labeller: an open_clip ViT at 64 pixels with a small text tower.

It is trained on phantoms of both classes.
"""

from typing import Any

import open_clip
import torch
import torch.nn.functional as F

from vdm_pipeline.embedded.training.data import both_classes, to_tensor
from vdm_pipeline.embedded.training.loop import adamw, cosine, set_learning_rate, train, update
from vdm_pipeline.embedded.training.run import Run
from vdm_pipeline.embedded.training.text import CONTEXT, MERGES, captions, tokens
from vdm_pipeline.embedded.training.vae import augment

CONFIG: dict[str, Any] = {
    "embed_dim": 96,
    "vision_cfg": {
        "image_size": 64,
        "layers": 5,
        "width": 128,
        "head_width": 32,
        "patch_size": 8,
        "mlp_ratio": 3.0,
    },
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": 512 + MERGES + 2,
        "width": 96,
        "heads": 4,
        "layers": 2,
        "hf_tokenizer_name": "tokenizer",
    },
}
PREPROCESS = {
    "size": 64,
    "mode": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}
STEPS = 2500
BATCH = 64
IMAGES_PER_CLASS = 12_000


def train_clip(run: Run) -> torch.nn.Module:
    """Train, or resume the training, and return the open_clip model."""
    steps, data = run.scaled(STEPS), both_classes(run, run.scaled(IMAGES_PER_CLASS))
    pneumonia = torch.arange(len(data), device=run.device) >= len(data) // 2
    torch.manual_seed(1)
    text_config = {key: value for key, value in CONFIG["text_cfg"].items() if key != "hf_tokenizer_name"}
    model = open_clip.model.CLIP(CONFIG["embed_dim"], CONFIG["vision_cfg"], text_config).to(run.device)
    optimizer = adamw(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05)
    known = torch.stack([tokens(captions(value)) for value in (False, True)]).to(run.device)

    def step(index: int) -> dict[str, torch.Tensor]:
        generator = run.generator(index)
        rows = torch.randint(len(data), (BATCH,), generator=generator, device=run.device)
        label, pixels = pneumonia[rows], augment(to_tensor(data[rows]), generator)
        caption = torch.randint(known.shape[1], (BATCH,), generator=generator, device=run.device)
        set_learning_rate(optimizer, cosine(index, steps, 1e-3))
        with run.autocast():
            images = model.encode_image(pixels, normalize=True).float()
            texts = model.encode_text(known[label.long(), caption], normalize=True).float()
        logits = model.logit_scale.exp() * images @ texts.T
        match = matching_pairs(label)
        loss = (F.cross_entropy(logits, match) + F.cross_entropy(logits.T, match)) / 2
        update(optimizer, loss, model.parameters())
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)  # CLIP's own limit: a scale of 100
        right = (logits @ match.T).argmax(1)
        return {"loss": loss.detach(), "agree": (label[right] == label).float().mean()}

    modules, optimizers = {"clip": model}, {"clip": optimizer}
    train(step, run=run, stage="clip", steps=steps, modules=modules, optimizers=optimizers)
    return model.eval()


def matching_pairs(label: torch.Tensor) -> torch.Tensor:
    """Targets of CLIP's loss ``[n, n]``: every caption of an image's class matches it, with equal weights.

    With two classes most pairs of a batch would otherwise be false negatives.
    """
    match = (label[:, None] == label[None, :]).float()
    return match / match.sum(1, keepdim=True)
