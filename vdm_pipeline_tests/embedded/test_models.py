"""The packaged models: small, without pickle, and with distinct embeddings for the classes' captions."""

import torch
from safetensors import safe_open

from vdm_pipeline.embedded.training.lcm import Consistency, boundary
from vdm_pipeline.embedded.training.text import captions, tokenizer
from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.models.diffusion import encode_prompts, load_component
from vdm_pipeline.stages.models.pins import EMBEDDED


def test_weights_are_safetensors_of_at_most_20_mb():
    weights = list(EMBEDDED.rglob("*.safetensors"))
    assert len(weights) == 5
    assert sum(path.stat().st_size for path in weights) <= 20_000_000
    assert not [
        path for path in EMBEDDED.rglob("*") if path.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
    ]
    for path in weights:
        with safe_open(path, "pt") as file:
            assert all(file.get_tensor(key).isfinite().all() for key in file.keys())  # noqa: SIM118


def test_captions_of_the_classes_have_distinct_embeddings():
    """If the text encoder gave all captions one embedding, a LoRA could not distinguish the classes."""
    classes = load_profile("demo").classes
    normal, sick = encode_prompts(
        EMBEDDED / "sd", [classes.caption(0), classes.caption(1)], torch.device("cpu"), torch.float32
    )
    distance = (normal - sick).norm(dim=1) / normal.norm(dim=1)
    assert distance.max() > 0.2


def test_tokenizer_survives_saving_and_any_text():
    words, packaged = tokenizer(), load_component(EMBEDDED / "sd", "tokenizer")
    for text in [*captions(True), "Ünïcode, 漢字 & <tags>", ""]:
        assert words(text)["input_ids"] == packaged(text)["input_ids"]
    assert (
        packaged.decode(packaged("pneumonia")["input_ids"], skip_special_tokens=True).strip() == "pneumonia"
    )


def test_consistency_function_is_the_identity_at_time_zero():
    skip, out = boundary(torch.tensor([0]))
    assert (float(skip), float(out)) == (1.0, 0.0)
    skip, out = boundary(torch.tensor([999]))
    assert float(skip) < 1e-6
    assert abs(float(out) - 1) < 1e-6


def test_solver_step_with_the_true_noise_lands_on_the_true_path():
    consistency, generator = Consistency(), torch.Generator().manual_seed(0)
    x, noise = torch.randn(3, 4, 8, 8, generator=generator), torch.randn(3, 4, 8, 8, generator=generator)
    time, earlier = torch.tensor([999, 499, 19]), torch.tensor([979, 479, -1])
    alpha = consistency.alphas[time][:, None, None, None]
    stepped = consistency.ddim(noise, alpha.sqrt() * x + (1 - alpha).sqrt() * noise, time, earlier)
    alpha = torch.where(earlier >= 0, consistency.alphas[earlier.clamp_min(0)], torch.ones(()))
    alpha = alpha[:, None, None, None]
    torch.testing.assert_close(stepped, alpha.sqrt() * x + (1 - alpha).sqrt() * noise, atol=1e-3, rtol=1e-3)
