"""The embedded labeller: an open_clip ViT at 64 pixels with a small text tower, on phantoms of both classes."""

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F

from vdm_pipeline.embedded.training.data import films, to_tensor
from vdm_pipeline.embedded.training.loop import cosine, set_rate, train
from vdm_pipeline.embedded.training.text import CONTEXT, MERGES, captions, draw_captions, tokenizer
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
BATCH = 64
FILMS = 12_000


def train_clip(work: Path, steps: int = 2500) -> torch.nn.Module:
    """Train (or go on training) and return the open_clip model.

    The loss is CLIP's, with every caption of an image's class counted as its match: with two classes most pairs of a
    batch would otherwise be false negatives.
    """
    data = np.concatenate([films(work, FILMS, pneumonia=False), films(work, FILMS, pneumonia=True)])
    sick = np.arange(len(data)) >= FILMS
    torch.manual_seed(1)
    text_config = {key: value for key, value in CONFIG["text_cfg"].items() if key != "hf_tokenizer_name"}
    model = open_clip.model.CLIP(CONFIG["embed_dim"], CONFIG["vision_cfg"], text_config)
    tune = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05)
    words = tokenizer()
    known = captions(False) + captions(True)
    tokens = dict(
        zip(
            known,
            torch.tensor(words(known, padding="max_length", max_length=CONTEXT)["input_ids"]),
            strict=True,
        )
    )

    def step(index: int) -> dict[str, float]:
        rng, generator = np.random.default_rng(index), torch.Generator().manual_seed(index)
        rows = np.sort(rng.integers(len(data), size=BATCH))
        pixels = augment(to_tensor(data[rows]), generator)
        text = torch.stack([tokens[caption] for caption in draw_captions(rng, sick[rows])])
        set_rate(tune, cosine(index, steps, 1e-3))
        images, texts = model.encode_image(pixels, normalize=True), model.encode_text(text, normalize=True)
        logits = model.logit_scale.exp() * images @ texts.T
        label = torch.from_numpy(sick[rows])
        match = (label[:, None] == label[None, :]).float()
        match = match / match.sum(1, keepdim=True)
        loss = (F.cross_entropy(logits, match) + F.cross_entropy(logits.T, match)) / 2
        tune.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        tune.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)  # CLIP's own limit: a scale of 100
        right = (logits @ match.T).argmax(1)
        return {"loss": float(loss.detach()), "agree": float((label[right] == label).float().mean())}

    train(step, steps=steps, modules={"clip": model}, optimizers={"clip": tune}, checkpoint=work / "clip")
    return model.eval()
