"""Bad models and adapters: the assets that load them raise one sentence."""

import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vdm_pipeline.io.hashing import folder_digest
from vdm_pipeline.settings import ModelPin, Profile
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline_tests.bad_inputs.case import Case, snapshot
from vdm_pipeline_tests.defs.assets.graph import materialize
from vdm_pipeline_tests.profiles import shrink

CLIP = "open_clip_model.safetensors"
UNET = "unet/diffusion_pytorch_model.safetensors"
LORA = "pytorch_lora_weights.safetensors"
LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
HUGE_HEADER = struct.pack("<Q", 2**62) + b"{}"
REMOTE_CODE = b'{"auto_map": {"AutoTokenizer": ["code.Tokenizer", null]}}'
Change = Callable[[Path], object]


def write(name: str, content: bytes) -> Change:
    """Write a file."""
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str) -> Change:
    """Remove the last bytes of a file."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1000])


def remove(*names: str) -> Change:
    """Remove files or folders."""

    def make(folder: Path) -> None:
        for path in (folder / name for name in names):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return make


def empty(name: str) -> Change:
    """Remove everything in a folder."""

    def make(folder: Path) -> None:
        shutil.rmtree(folder / name)
        (folder / name).mkdir()

    return make


def torch_save(name: str) -> Change:
    """Write a pickle of torch."""
    return lambda folder: torch.save({"weight": torch.zeros(2)}, folder / name)


def pickle_alone(folder: Path) -> None:
    """Replace the labeller's weights by a pickle."""
    remove(CLIP)(folder)
    torch_save("open_clip_pytorch_model.bin")(folder)


def tensors(name: str, change: Callable[[str, torch.Tensor], tuple[str, torch.Tensor]]) -> Change:
    """Change every tensor of a file."""

    def make(folder: Path) -> None:
        changed = dict(change(key, value) for key, value in load_file(folder / name).items())
        save_file({key: value.contiguous() for key, value in changed.items()}, folder / name)

    return make


def with_tensor(key: str, value: torch.Tensor) -> Change:
    """Add a tensor to the adapter, or replace one."""

    def make(folder: Path) -> None:
        save_file({**load_file(folder / LORA), key: value}, folder / LORA)

    return make


def pefts_names(folder: Path) -> None:
    """Rename the adapter's layers as peft does, without its configuration."""
    names = {
        f"base_model.model.{key.removeprefix('unet.')}": value
        for key, value in load_file(folder / LORA).items()
    }
    save_file(names, folder / LORA)


def times(factor: float) -> Callable[[str, torch.Tensor], tuple[str, torch.Tensor]]:
    """Multiply a tensor."""
    return lambda key, value: (key, value * factor)


def halve_rank(key: str, value: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Half of the rank in one of the two matrices."""
    return key, value[: len(value) // 2] if "lora_A" in key else value


def halve_inputs(key: str, value: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Matrices for a base whose layers have half of the inputs."""
    return key, value[:, : value.shape[1] // 2] if "lora_A" in key else value


def rename_block(key: str, value: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Layers of a base with more blocks."""
    return key.replace("down_blocks.0", "down_blocks.7"), value


def rename_all(key: str, value: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Layers that no UNet has."""
    return f"other.{key[-9:]}", value


LABELLER = [
    Case("labeller's folder without files", "clip", empty(".")),
    Case("labeller with only a pickle", "clip", pickle_alone),
    Case(
        "pickle beside the labeller's weights",
        "open_clip_pytorch_model.bin",
        torch_save("open_clip_pytorch_model.bin"),
    ),
    Case("pickle renamed to .safetensors", "clip", torch_save(CLIP)),
    Case("weights cut short", "clip", cut(CLIP)),
    Case("weights whose header claims 4 EiB", "clip", write(CLIP, HUGE_HEADER)),
    Case("labeller's config that is not JSON", "clip", write("open_clip_config.json", b"{")),
    Case("labeller without a tokenizer", "clip", remove("tokenizer.json", "tokenizer_config.json")),
    Case(
        "labeller that wants to run code",
        "tokenizer_config.json",
        write("tokenizer_config.json", REMOTE_CODE),
    ),
    Case("labeller with NaN weights", "labelling.model", tensors(CLIP, times(torch.nan))),
]
BASE = [
    Case("base without a tokenizer", "training.base", remove("tokenizer")),
    Case("base with a tokenizer without a vocabulary", "tokenizer", empty("tokenizer")),
    Case("pickle instead of the UNet", "unet", write(UNET, pickle.dumps({"weight": 1}))),
    Case("UNet's config that is not JSON", "unet", write("unet/config.json", b"{")),
    Case("UNet's config that is a list", "unet", write("unet/config.json", b"[]")),
    Case("base with NaN weights", "'lcm'", tensors(UNET, times(torch.nan))),
]
ADAPTER = [
    Case("adapter's folder without files", LORA, empty(".")),
    Case("adapter that is a pickle", LORA, write(LORA, pickle.dumps({"weight": 1}))),
    Case("adapter with matrices of two ranks", LORA, tensors(LORA, halve_rank)),
    Case("adapter of a narrower base", LORA, tensors(LORA, halve_inputs)),
    Case("adapter of a deeper base", LORA, tensors(LORA, rename_block)),
    Case("adapter with NaN", LORA, tensors(LORA, times(torch.nan))),
    Case("adapter of zeros", "'lcm'", tensors(LORA, times(0))),
    Case("adapter without layers", LORA, tensors(LORA, rename_all)),
    Case(
        "adapter with layers for the text encoder",
        LORA,
        with_tensor("text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", torch.ones(2, 2)),
    ),
    *(
        Case(title, LORA, with_tensor(f"{LAYER}.{end}", torch.ones(2)))
        for title, end in {
            "adapter with biases": "lora_B.bias",
            "adapter with DoRA in kohya's format": "dora_scale",
            "adapter with LoHa": "hada_w1_a",
            "adapter with whole weights": "diff",
            "adapter with magnitudes of another base": "lora_magnitude_vector",
            "adapter with two numbers as alpha": "alpha",
        }.items()
    ),
    Case(
        "adapter with magnitudes in one layer",
        LORA,
        with_tensor(f"{LAYER}.lora_magnitude_vector", torch.ones(128)),
    ),
    Case("adapter with alpha NaN", LORA, with_tensor(f"{LAYER}.alpha", torch.tensor(torch.nan))),
    Case("adapter with peft's names, without `adapter_config.json`", "adapter_config.json", pefts_names),
]
PINS = {
    "labelling.model": Case(
        "model folder that does not exist",
        "'/no/where'",
        lambda: ModelPin(id="/no/where", sha256="0" * 64, licence="MIT"),
    ),
    "training.base": Case(
        "model folder with another sha256",
        "sd",
        lambda: ModelPin(id=str(EMBEDDED / "sd"), sha256="0" * 64, licence="MIT"),
    ),
    "generation.lcm_lora": Case(
        "labeller instead of the LCM-LoRA", LORA, lambda: ModelPin(id="embedded:clip", licence="MIT")
    ),
    "evaluation.features": Case(
        "labeller instead of the vision transformer",
        "clip",
        lambda: ModelPin(id="embedded:clip", licence="MIT"),
    ),
}
FOLDERS = [
    *(("labelling.model", "clip", case) for case in LABELLER),
    *(("training.base", "sd", case) for case in BASE),
    *(("generation.lcm_lora", "lcm_lora", case) for case in ADAPTER),
]
"""Setting, embedded model, and what is changed in a copy of its folder."""
LOADED_BY = {"labelling.model": "image_embeddings", "evaluation.features": "image_metrics"}
"""The asset that loads the model of a setting; else it is ``baseline_images``."""
DEVICE = Case(
    '`execution.device = "cuda"` without a CUDA device',
    "execution.device",
    lambda profile: shrink(profile, execution={"device": "cuda"}),
)
CASES = [*(case for _, _, case in FOLDERS), *PINS.values(), DEVICE]


def with_model(profile: Profile, setting: str, pin: ModelPin) -> Profile:
    section, key = setting.split(".")
    return profile.model_copy(update={section: getattr(profile, section).model_copy(update={key: pin})})


def check_rejected(sentences, case: Case, setting: str, profile: Profile, root: Path) -> None:
    """The asset that loads the model fails with the case's sentence, and changes nothing."""
    before = snapshot(root)
    result = materialize(profile, root, [LOADED_BY.get(setting, "baseline_images")])
    sentences.check_run(case, result, root, root.parent)
    assert snapshot(root) == before


@pytest.fixture
def project_for(request, tiny, project) -> Callable[[str], tuple[Profile, Path]]:
    """Profile and folder for a setting: a finished project if its asset needs upstream assets, else empty."""
    return lambda setting: (
        request.getfixturevalue("copied_folder") if setting in LOADED_BY else (tiny, project)
    )


@pytest.mark.parametrize(
    ("setting", "model", "case"), [pytest.param(*row, id=row[2].title) for row in FOLDERS]
)
def test_damaged_model_is_rejected(setting, model, case, project_for, tmp_path, sentences):
    folder = tmp_path / "models" / model
    shutil.copytree(EMBEDDED / model, folder)
    case.make(folder)
    pin = ModelPin(id=str(folder), sha256=folder_digest(folder), licence="MIT")
    profile, root = project_for(setting)
    check_rejected(sentences, case, setting, with_model(profile, setting, pin), root)


@pytest.mark.parametrize("setting", PINS)
def test_wrong_model_is_rejected(setting, project_for, sentences):
    profile, root = project_for(setting)
    case = PINS[setting]
    check_rejected(sentences, case, setting, with_model(profile, setting, case.make()), root)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_device_is_rejected(tiny, project, sentences):
    check_rejected(sentences, DEVICE, "", DEVICE.make(tiny), project)
