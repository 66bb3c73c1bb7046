"""Every option of peft's `LoraConfig` is applied as by peft, cannot matter, or is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

from vdm_pipeline.errors import ModelError
from vdm_pipeline.stages.generation import adapter_config
from vdm_pipeline.stages.generation.adapter_config import APPLIED, CHECKED, IGNORED, NOT_APPLIED
from vdm_pipeline.stages.generation.adapters import fuse, load_unet_with_adapters
from vdm_pipeline.stages.generation.plan import Adapter
from vdm_pipeline.stages.models.diffusion import load_component
from vdm_pipeline_tests.stages.generation.jobs import BASE

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
Tensors = dict[str, torch.Tensor]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # peft's, of options without an effect here


def trained(folder: Path, **options: Any) -> PeftModel:
    """The tiny UNet with a LoRA of peft, moved from its start, which is in ``folder/start``."""
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 2, "lora_alpha": 6, "target_modules": ["to_q", "to_v"], **options})
    model = get_peft_model(load_component(BASE, "unet"), config)
    model.save_pretrained(folder / "start")
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.add_(torch.randn_like(value), alpha=0.05)
    return model


def saved(model: PeftModel, folder: Path, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    return folder / "adapter_model.safetensors"


def merged_by_peft(model: PeftModel) -> Tensors:
    return {name: value.clone() for name, value in model.merge_and_unload().state_dict().items()}


def merged_here(file: Path) -> Tensors:
    adapters = [Adapter("foreign", file, 1.0)]
    unet = load_unet_with_adapters(BASE, adapters)
    fuse(unet, adapters)
    return unet.state_dict()


def check_same(result: Tensors, expected: Tensors) -> None:
    plain = load_component(BASE, "unet").state_dict()
    assert (expected[f"{LAYER}.weight"] - plain[f"{LAYER}.weight"]).abs().max() > 0.01
    assert set(result) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(result[name], value, atol=1e-6, rtol=1e-5)


OPTIONS = {
    **{
        f"init {name}": {"init_lora_weights": name}
        for name in (True, False, *sorted(adapter_config.KEEPS_BASE))
    },
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "patterns, as of EVA": {"rank_pattern": {"mid_block.*": 4}, "alpha_pattern": {"to_q": 3.0}},
    "layers": {"target_modules": r".*attn1\.to_[qv]", "exclude_modules": r".*down_blocks\.0.*"},
    "layer numbers": {"layers_to_transform": [0], "layers_pattern": "attentions"},
    "of other layers": {"fan_in_fan_out": True, "ensure_weight_tying": True},
    "of training": {"lora_dropout": 0.1, "inference_mode": False, "task_type": "FEATURE_EXTRACTION"},
    "notes": {
        "base_model_name_or_path": "x",
        "revision": "y",
        "peft_version": "0.1",
        "auto_mapping": {"a": "b"},
    },
    "of other inits": {"corda_config": {}, "lora_ga_config": {}, "eva_config": {}, "loftq_config": {}},
    "of other methods": {"qalora_group_size": 4, "megatron_core": "megatron.other"},
}


def test_every_field_of_peft_is_known():
    sets = (APPLIED, CHECKED, IGNORED, set(NOT_APPLIED))
    assert set().union(*sets) == {field.name for field in dataclasses.fields(LoraConfig)}
    assert sum(map(len, sets)) == len(dataclasses.fields(LoraConfig))


@pytest.mark.parametrize("case", OPTIONS)
def test_peft_applies_the_adapter_in_the_same_way(tmp_path, case):
    model = trained(tmp_path, **OPTIONS[case])
    file = saved(model, tmp_path)
    check_same(merged_here(file), merged_by_peft(model.eval()))


def test_a_state_dict_is_applied_with_the_configuration_beside_it(tmp_path):
    model = trained(tmp_path, use_dora=True)
    state = {name: value.contiguous() for name, value in model.state_dict().items() if "lora_" in name}
    assert f"base_model.model.{LAYER}.lora_A.default.weight" in state
    save_file(state, saved(model, tmp_path))
    check_same(merged_here(tmp_path / "adapter_model.safetensors"), merged_by_peft(model))


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora"])
def test_an_adapter_of_changed_weights_is_refused_until_it_is_converted(tmp_path, init):
    model = trained(tmp_path, init_lora_weights=init)
    with pytest.raises(ModelError, match=f"init_lora_weights = {init}.*path_initial_model_for_weight"):
        merged_here(saved(model, tmp_path))
    converted = saved(
        model, tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "start")
    )
    check_same(merged_here(converted), merged_by_peft(model))


def with_option(folder: Path, name: str, value: Any) -> Path:
    """A plain adapter whose configuration then gets another value."""
    file, path = saved(trained(folder), folder), folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    return file


REFUSED = {
    **{name: (name, {"a": 1}, rf"sets {name} \({what}\), which") for name, what in NOT_APPLIED.items()},
    "unknown": ("use_later", True, "sets use_later, unknown here"),
    "CorDA": ("init_lora_weights", "corda", "init_lora_weights = corda, .*path_initial_model"),
    "LoRA-GA": ("init_lora_weights", "lora_ga", "init_lora_weights = lora_ga, .*path_initial_model"),
    "LoftQ": ("init_lora_weights", "loftq", "init_lora_weights = loftq, .*use another adapter"),
    "trained biases": ("bias", "all", "has bias = all; use an adapter with bias = none"),
    "LoHa": ("peft_type", "LOHA", "has peft_type = LOHA; use an adapter with peft_type = LORA"),
    "DoRA": ("use_dora", True, "lacks DoRA's magnitude of layer"),
    "no alpha": ("lora_alpha", None, "has no number as alpha of layer"),
    "pattern that is a list": ("alpha_pattern", [1], "has no number as alpha of layer"),
    "pattern that is not regular": ("alpha_pattern", {"(": 1}, "has no number as alpha of layer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_option_that_is_not_applied_is_refused_for_its_reason(tmp_path, case):
    name, value, message = REFUSED[case]
    with pytest.raises(ModelError, match=message) as caught:
        merged_here(with_option(tmp_path, name, value))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000])
def test_a_configuration_that_is_not_an_object_is_refused(tmp_path, text):
    file = saved(trained(tmp_path), tmp_path)
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"adapter_config\.json is not a JSON object; use"):
        merged_here(file)


def test_an_unknown_option_that_is_off_does_not_matter(tmp_path):
    file = with_option(tmp_path, "use_later", False)
    check_same(merged_here(file), merged_by_peft(trained(tmp_path / "peft")))


def header_file(folder: Path, options: dict[str, Any]) -> Path:
    """As diffusers writes: the UNet's options, and those of the text encoder, in the header."""
    model = trained(folder)
    tensors = {
        name.replace("base_model.model", "unet").replace(".default", ""): value.contiguous()
        for name, value in model.state_dict().items()
        if "lora_" in name
    }
    save_file(tensors, folder / "x.safetensors", {"lora_adapter_metadata": json.dumps(options)})
    return folder / "x.safetensors"


def test_options_of_the_text_encoder_do_not_matter(tmp_path):
    options = {"unet.lora_alpha": 6, "text_encoder.lora_alpha": 1, "text_encoder.init_lora_weights": "pissa"}
    check_same(merged_here(header_file(tmp_path, options)), merged_by_peft(trained(tmp_path / "peft")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_encoder.lora_alpha": 6}, "has no number as alpha of layer"),
        ({"unet.lora_alpha": 6, "unet.init_lora_weights": "olora"}, "init_lora_weights = olora"),
    ],
)
def test_options_of_the_header_are_checked(tmp_path, options, message):
    with pytest.raises(ModelError, match=f"lora_adapter_metadata in its header, .*{message}"):
        merged_here(header_file(tmp_path, options))


def test_an_adapter_of_the_text_encoder_is_refused_as_such(tmp_path):
    config = LoraConfig(r=2, target_modules=["q_proj"])
    model = get_peft_model(load_component(BASE, "text_encoder"), config)
    with pytest.raises(ModelError, match="no LoRA layer for a UNet, only layers for the text encoder; use"):
        merged_here(saved(model, tmp_path))
