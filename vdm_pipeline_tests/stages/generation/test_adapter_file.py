"""Adapters of every format are applied as ``W + alpha / rank * B A``, computed by hand, or refused."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vdm_pipeline.errors import ModelError
from vdm_pipeline.stages.generation import adapters as adapters_module
from vdm_pipeline.stages.generation.adapters import fuse, load_unet_with_adapters
from vdm_pipeline.stages.generation.plan import Adapter
from vdm_pipeline.stages.models.diffusion import load_component
from vdm_pipeline_tests.stages.generation.jobs import BASE, LCM

LATENT = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
TEXT = torch.randn(2, 77, 96, generator=torch.Generator().manual_seed(1))
ATTENTION = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
WEIGHT = 0.7
Tensors = dict[str, torch.Tensor]
Matrices = Mapping[str, tuple[torch.Tensor, torch.Tensor]]
Spell = Callable[[str], tuple[str, str]]
"""Names of the tensors of a layer's two matrices."""


@pytest.fixture(scope="module")
def base() -> Tensors:
    """Weights of all layers that a LoRA may update, by layer."""
    unet = load_component(BASE, "unet")
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return {name: layer.weight.clone() for name, layer in unet.named_modules() if isinstance(layer, kinds)}


@pytest.fixture(scope="module")
def matrices(base: Tensors) -> Matrices:
    """Random matrices A and B for every layer, of the ranks 1, 2 and 3."""
    generator = torch.Generator().manual_seed(2)
    pairs = {}
    for index, (name, weight) in enumerate(base.items()):
        out, *inputs = weight.shape
        rank, ones = 1 + index % 3, [1] * (len(inputs) - 1)
        a = torch.randn(rank, *inputs, generator=generator) * 0.02
        pairs[name] = a, torch.randn(out, rank, *ones, generator=generator) * 0.1
    return pairs


def alpha_of(name: str) -> float:
    """Another alpha for neighbouring layers, exact in half precision."""
    return (0.5, 1.0, 2.0, 4.0, 8.0)[sum(map(ord, name)) % 5]


def updated(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """The weight with the LoRA's update."""
    return weight + scale * (b.flatten(1) @ a.flatten(1)).reshape(weight.shape)


def peft(prefix: str) -> Spell:
    return lambda name: (f"{prefix}{name}.lora_A.weight", f"{prefix}{name}.lora_B.weight")


def kohya(name: str) -> tuple[str, str]:
    key = "lora_unet_" + name.replace(".", "_")
    return f"{key}.lora_down.weight", f"{key}.lora_up.weight"


def old_diffusers(name: str) -> tuple[str, str]:
    """As diffusers 0.14 to 0.25 wrote adapters: attention layers had processors."""
    key = "unet." + name.replace("attn1.", "attn1.processor.").replace("attn2.", "attn2.processor.")
    joint = "_lora" if "processor" in key else ".lora"
    key = key.removesuffix(".0") if "processor" in key else key
    return f"{key}{joint}.down.weight", f"{key}{joint}.up.weight"


def spelled(matrices: Matrices, spell: Spell) -> Tensors:
    tensors = {}
    for name, (a, b) in matrices.items():
        down, up = spell(name)
        tensors |= {down: a, up: b}
    return tensors


def alpha_tensors(matrices: Matrices, spell: Spell) -> Tensors:
    suffix = ".lora_down.weight"
    return {f"{spell(name)[0].removesuffix(suffix)}.alpha": torch.tensor(alpha_of(name)) for name in matrices}


def configuration(matrices: Matrices, **options: object) -> dict:
    """peft's, with a pattern for each layer."""
    pattern = {f"^{name}": alpha_of(name) for name in matrices}
    return {"r": 3, "lora_alpha": 1, "alpha_pattern": pattern, "target_modules": ["to_q"], **options}


def fused(file: Path, weight: float = WEIGHT) -> Tensors:
    """Weights of the UNet with the fused adapter, by layer."""
    adapters = [Adapter("foreign", file, weight)]
    unet = load_unet_with_adapters(BASE, adapters)
    fuse(unet, adapters)
    return {name.removesuffix(".weight"): value for name, value in unet.state_dict().items()}


def check_applied(file: Path, base: Tensors, matrices: Matrices, scale: Callable[[str], float]) -> None:
    result = fused(file)
    for name, weight in base.items():
        expected = updated(weight, *matrices[name], WEIGHT * scale(name)) if name in matrices else weight
        torch.testing.assert_close(result[name], expected, atol=1e-6, rtol=1e-5)


def alpha_over_rank(matrices: Matrices) -> Callable[[str], float]:
    return lambda name: alpha_of(name) / len(matrices[name][0])


SPELLINGS = {
    "diffusers": peft("unet."),
    "bare": peft(""),
    "ComfyUI": peft("diffusion_model."),
    "checkpoint": peft("model.diffusion_model."),
    "kohya": kohya,
    "old diffusers": old_diffusers,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_without_alpha_the_scale_is_one(base, matrices, tmp_path, spelling):
    save_file(spelled(matrices, SPELLINGS[spelling]), tmp_path / "x.safetensors")
    check_applied(tmp_path / "x.safetensors", base, matrices, lambda name: 1.0)


def test_every_alpha_of_kohya_counts(base, matrices, tmp_path):
    tensors = spelled(matrices, kohya) | alpha_tensors(matrices, kohya)
    save_file({name: value.half() for name, value in tensors.items()}, tmp_path / "x.safetensors")
    halves = {name: (a.half().float(), b.half().float()) for name, (a, b) in matrices.items()}
    check_applied(tmp_path / "x.safetensors", base, halves, alpha_over_rank(matrices))


def test_eight_bits_are_read(base, matrices, tmp_path):
    dtype = torch.float8_e4m3fn
    tensors = spelled(matrices, kohya) | alpha_tensors(matrices, kohya)
    save_file({name: value.to(dtype) for name, value in tensors.items()}, tmp_path / "x.safetensors")
    rounded = {name: (a.to(dtype).float(), b.to(dtype).float()) for name, (a, b) in matrices.items()}
    check_applied(tmp_path / "x.safetensors", base, rounded, alpha_over_rank(matrices))


@pytest.mark.parametrize("prefix", ["unet.", ""])
def test_alphas_of_the_header_count(base, matrices, tmp_path, prefix):
    config = {f"{prefix}{key}": value for key, value in configuration(matrices).items()}
    header = {"lora_adapter_metadata": json.dumps(config)}
    save_file(spelled(matrices, peft(prefix)), tmp_path / "x.safetensors", header)
    check_applied(tmp_path / "x.safetensors", base, matrices, alpha_over_rank(matrices))


def test_pefts_own_folder_is_applied_with_its_configuration(base, matrices, tmp_path):
    save_file(spelled(matrices, peft("base_model.model.")), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(configuration(matrices)))
    check_applied(tmp_path / "adapter_model.safetensors", base, matrices, alpha_over_rank(matrices))


def test_rank_stabilized_lora_divides_by_the_root_of_the_rank(base, matrices, tmp_path):
    header = {"lora_adapter_metadata": json.dumps(configuration(matrices, use_rslora=True))}
    save_file(spelled(matrices, peft("unet.")), tmp_path / "x.safetensors", header)
    check_applied(
        tmp_path / "x.safetensors",
        base,
        matrices,
        lambda name: alpha_of(name) / len(matrices[name][0]) ** 0.5,
    )


def test_the_unfused_adapter_predicts_what_the_updated_weights_do(base, matrices, tmp_path):
    tensors = spelled(matrices, kohya) | alpha_tensors(matrices, kohya)
    save_file(tensors, tmp_path / "x.safetensors")
    by_hand = load_component(BASE, "unet")
    with torch.no_grad():
        for name, weight in base.items():
            scale = WEIGHT * alpha_over_rank(matrices)(name)
            by_hand.get_submodule(name).weight.copy_(updated(weight, *matrices[name], scale))
        unet = load_unet_with_adapters(BASE, [Adapter("foreign", tmp_path / "x.safetensors", WEIGHT)])
        predicted, expected = (model(LATENT, 500, TEXT).sample for model in (unet, by_hand))
        plain = load_component(BASE, "unet")(LATENT, 500, TEXT).sample
    torch.testing.assert_close(predicted, expected, atol=2e-3, rtol=1e-3)
    assert (plain - expected).abs().max() > 0.1


def test_two_adapters_keep_their_own_scales(base, matrices, tmp_path):
    tensors = spelled(matrices, kohya) | alpha_tensors(matrices, kohya)
    save_file(tensors, tmp_path / "x.safetensors")
    unet = load_unet_with_adapters(BASE, [LCM, Adapter("foreign", tmp_path / "x.safetensors", WEIGHT)])
    for name, (a, _) in matrices.items():
        assert unet.get_submodule(name).scaling["foreign"] == pytest.approx(WEIGHT * alpha_of(name) / len(a))
    layer = unet.get_submodule(ATTENTION)
    assert layer.scaling["lcm"] == LCM.weight * layer.lora_alpha["lcm"] / layer.r["lcm"]


def test_a_library_that_loses_an_alpha_is_found(matrices, tmp_path, monkeypatch):
    config = adapters_module._lora_config
    monkeypatch.setattr(
        adapters_module, "_lora_config", lambda layers: config(layers) | {"alpha_pattern": {}}
    )
    save_file(spelled(matrices, kohya) | alpha_tensors(matrices, kohya), tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="is not loaded as it was trained"):
        load_unet_with_adapters(BASE, [Adapter("foreign", tmp_path / "x.safetensors", 1.0)])


KEY = kohya(ATTENTION)[0].removesuffix(".lora_down.weight")
A, B = torch.ones(2, 4), torch.ones(4, 2)


def with_tensor(name: str, value: torch.Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: value}


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key.replace(old, new): value for key, value in tensors.items()}


REFUSED = {
    "text encoder, kohya": (
        with_tensor("lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", A),
        r"also has layers for the text encoder \(1\), which",
    ),
    "text encoder, diffusers": (
        with_tensor("text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight", A),
        r"also has layers for the text encoder \(1\), which",
    ),
    "text encoder, ComfyUI": (
        with_tensor("text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", A),
        r"also has layers for the text encoder \(1\), which",
    ),
    "text encoder, peft": (
        with_tensor("base_model.model.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", A),
        r"also has layers for the text encoder \(1\), which",
    ),
    "only the text encoder": (
        renamed("lora_unet_", "lora_te_"),
        r"no LoRA layer for a UNet, only layers for the text encoder; use",
    ),
    "SDXL": (
        with_tensor("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight", A),
        r"of which the UNet of the base has \d+, and not 'lora_unet_input_blocks_4_1",
    ),
    "bias": (with_tensor(f"unet.{ATTENTION}.lora_B.bias", A[0]), r"has biases \('unet.*lora_B.bias'\)"),
    "DoRA of kohya": (with_tensor(f"{KEY}.dora_scale", A), r"has DoRA in kohya's format"),
    "LoHa": (with_tensor(f"{KEY}.hada_w1_a", A), r"has LoHa"),
    "LoKr": (with_tensor(f"{KEY}.lokr_w1", A), r"has LoKr"),
    "only LoKr": (lambda _: {f"{KEY}.lokr_w1": A, f"{KEY}.lokr_w2": B}, r"for a UNet; it is LoKr; use"),
    "only OFT": (lambda _: {f"{KEY}.oft_blocks": A}, r"for a UNet; it is OFT or BOFT; use"),
    "only GLoRA": (lambda _: {f"{KEY}.a1.weight": A}, r"for a UNet; it is GLoRA; use"),
    "only whole weights": (lambda _: {f"{KEY}.diff": A}, r"for a UNet; it is whole weights; use"),
    "other names": (
        renamed("lora_unet_", "diffusion_model.input_blocks."),
        r"of which the UNet of the base has 0, and not .* on this base, with the layer names of diffusers or",
    ),
    "Tucker": (with_tensor(f"{KEY}.lora_mid.weight", A), r"has a Tucker decomposition"),
    "whole weights": (with_tensor(f"{KEY}.diff", A), r"has whole weights \('.*\.diff'\), which cannot"),
    "unknown tensor": (
        with_tensor(f"unet.{ATTENTION}.base_layer.weight", A),
        r"the tensor '.*\.base_layer\.weight', which does not belong to a LoRA",
    ),
    "two adapters": (
        with_tensor(f"{ATTENTION}.lora_A.default.weight", A),
        rf"has two tensors for 'down' of layer {ATTENTION}",
    ),
    "no second matrix": (without(f"{KEY}.lora_up.weight"), rf"lacks the matrix 'up' of layer {ATTENTION}"),
    "no first matrix": (without(f"{KEY}.lora_down.weight"), rf"lacks the matrix 'down' of layer {ATTENTION}"),
    "ranks differ": (
        with_tensor(f"{KEY}.lora_up.weight", B[:, :1]),
        rf"has matrices .* for layer {ATTENTION}",
    ),
    "narrower base": (with_tensor(f"{KEY}.lora_down.weight", A), rf"has matrices .* for layer {ATTENTION}"),
    "matrix of one dimension": (with_tensor(f"{KEY}.lora_down.weight", A[0]), r"has matrices \[4\] and"),
    "alpha of two numbers": (with_tensor(f"{KEY}.alpha", torch.ones(2)), r"has 2 numbers as alpha of layer"),
    "alpha NaN": (with_tensor(f"{KEY}.alpha", torch.tensor(torch.nan)), r"has alpha = nan for layer"),
    "alpha infinite": (with_tensor(f"{KEY}.alpha", torch.tensor(torch.inf)), r"has alpha = inf for layer"),
    "NaN": (
        lambda tensors: {
            name: value if "alpha" in name else value * torch.nan for name, value in tensors.items()
        },
        r"not finite",
    ),
    "some magnitudes": (
        with_tensor(f"unet.{ATTENTION}.lora_magnitude_vector", torch.ones(128)),
        r"magnitudes of DoRA in 1 of \d+ layers",
    ),
    "magnitudes of another base": (
        with_tensor(f"unet.{ATTENTION}.lora_magnitude_vector", torch.ones(2)),
        rf"has 2 magnitudes of DoRA for layer {ATTENTION}, which has 128 outputs",
    ),
    "layer twice": (
        with_tensor(f"unet.{ATTENTION}.lora_A.weight", A),
        rf"has two tensors for .* of layer {ATTENTION}",
    ),
    "peft without its configuration": (
        lambda tensors: {f"base_model.model.{ATTENTION}.lora_A.weight": A},
        r"alpha is in adapter_config.json, which is missing",
    ),
    "state dict without a configuration": (
        lambda tensors: {f"{ATTENTION}.lora_A.default.weight": A},
        r"alpha is in adapter_config.json, which is missing",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_not_be_used_is_refused_for_its_reason(matrices, tmp_path, case):
    change, message = REFUSED[case]
    tensors = change(spelled(matrices, kohya) | alpha_tensors(matrices, kohya))
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=message) as caught:
        load_unet_with_adapters(BASE, [Adapter("foreign", tmp_path / "x.safetensors", 1.0)])
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_the_embedded_lcm_lora_is_applied_in_full(base):
    tensors = load_file(LCM.file)
    names = {key.removeprefix("unet.").rpartition(".lora_")[0] for key in tensors}
    pairs = {name: tuple(tensors[key].float() for key in peft("unet.")(name)) for name in names}
    check_applied(LCM.file, base, pairs, lambda name: 1.0)
