"""Models and adapters, by way of the assets that load them."""

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
from vdm_pipeline_tests.bad_inputs.case import Case, check, each, snapshot
from vdm_pipeline_tests.conftest import shrink
from vdm_pipeline_tests.defs.assets.graph import materialize, sentence

CLIP, UNET, LORA = (
    "open_clip_model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "pytorch_lora_weights.safetensors",
)
HINT = "put intact files of the model there, and pin them in the profile."
HEADER = "cannot be loaded (SafetensorError: Error while deserializing header: "
NO_CLIP = "…clip is no open_clip model: it needs open_clip_config.json and a .safetensors file."
Change = Callable[[Path], object]


def file(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1000])


def gone(name: str) -> Change:
    return lambda folder: (
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    )


def emptied(name: str) -> Change:
    return lambda folder: (shutil.rmtree(folder / name), (folder / name).mkdir())


def saved_by_torch(name: str) -> Change:
    return lambda folder: torch.save({"weight": torch.zeros(2)}, folder / name)


def tensors(name: str, change: Callable[[str, torch.Tensor], tuple[str, torch.Tensor]]) -> Change:
    """The file with every tensor changed."""

    def make(folder: Path) -> None:
        changed = dict(change(key, value) for key, value in load_file(folder / name).items())
        save_file({key: value.contiguous() for key, value in changed.items()}, folder / name)

    return make


def halved(key: str, value: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Half of the rank, in one of the two matrices."""
    return key, value[: len(value) // 2] if "lora_A" in key else value


def narrower(key: str, value: torch.Tensor) -> tuple[str, torch.Tensor]:
    """As of a base whose layers have half of the inputs."""
    return key, value[:, : value.shape[1] // 2] if "lora_A" in key else value


def elsewhere(key: str, value: torch.Tensor) -> tuple[str, torch.Tensor]:
    """As of a base with more blocks."""
    return key.replace("down_blocks.0", "down_blocks.7"), value


HUGE = struct.pack("<Q", 2**62) + b"{}"
LABELLER = [
    Case("labeller's folder emptied", NO_CLIP, emptied(".")),
    Case(
        "labeller with a pickle alone",
        NO_CLIP,
        lambda folder: (gone(CLIP)(folder), saved_by_torch("open_clip_pytorch_model.bin")(folder)),
    ),
    Case(
        "pickle beside the labeller's weights",
        "…open_clip_pytorch_model.bin may be a pickle, which is never read; keep the .safetensors file alone, and pin the folder anew.",
        saved_by_torch("open_clip_pytorch_model.bin"),
    ),
    Case("pickle renamed to .safetensors", f"…clip {HEADER}header too large); {HINT}", saved_by_torch(CLIP)),
    Case(
        "weights cut short", f"…clip {HEADER}incomplete metadata, file not fully covered); {HINT}", cut(CLIP)
    ),
    Case("weights whose header claims 4 EiB", f"…clip {HEADER}header too large); {HINT}", file(CLIP, HUGE)),
    Case(
        "labeller's config that is no JSON",
        f"…clip cannot be loaded (JSONDecodeError: …); {HINT}",
        file("open_clip_config.json", b"{"),
    ),
    Case(
        "labeller that asks for code to be run",
        "…tokenizer_config.json asks for code to be run ('auto_map'), which is never done; take a model that needs none.",
        file("tokenizer_config.json", b'{"auto_map": {"AutoTokenizer": ["code.Tokenizer", null]}}'),
    ),
    Case(
        "labeller without a tokenizer",
        f"…clip cannot be loaded (…); {HINT}",
        lambda folder: (gone("tokenizer.json")(folder), gone("tokenizer_config.json")(folder)),
    ),
    Case(
        "labeller whose weights are NaN",
        "Embeddings of train images are not finite; look at labelling.model and its weights.",
        tensors(CLIP, lambda key, value: (key, value * torch.nan)),
    ),
]
BASE = [
    Case(
        "base without a tokenizer",
        "…sd is no Stable Diffusion folder: it lacks 'tokenizer'; correct training.base in the profile.",
        gone("tokenizer"),
    ),
    Case(
        "base whose tokenizer has no words",
        "…tokenizer lacks its vocabulary, tokenizer.json or vocab.json; fetch it again.",
        emptied("tokenizer"),
    ),
    Case(
        "pickle in the place of the UNet",
        f"…unet {HEADER}header too large); {HINT}",
        file(UNET, pickle.dumps({"weight": 1})),
    ),
    Case(
        "UNet's config that is no JSON",
        f"…unet cannot be loaded (JSONDecodeError: …); {HINT}",
        file("unet/config.json", b"{"),
    ),
    Case(
        "UNet's config that is a list", f"…unet cannot be loaded (…); {HINT}", file("unet/config.json", b"[]")
    ),
    Case(
        "base whose weights are NaN",
        "Weights of adapter 'lcm' from …lcm_lora, or of its base, are not finite; train or fetch it again.",
        tensors(UNET, lambda key, value: (key, value * torch.nan)),
    ),
]
ADAPTER = [
    Case(
        "adapter's folder emptied",
        f"…{LORA} is no file; put the file there, or correct what names it.",
        emptied("."),
    ),
    Case(
        "adapter that is a pickle",
        f"…{LORA} {HEADER}header too large); {HINT}",
        file(LORA, pickle.dumps({"weight": 1})),
    ),
    Case(
        "adapter of another rank than it says",
        f"…{LORA} cannot be loaded (RuntimeError: …); {HINT}",
        tensors(LORA, halved),
    ),
    Case(
        "adapter of a narrower base",
        f"…{LORA} cannot be loaded (RuntimeError: …); {HINT}",
        tensors(LORA, narrower),
    ),
    Case(
        "adapter of a deeper base",
        f"…{LORA} has … layers, of which the UNet in …sd has …; take an adapter of this base.",
        tensors(LORA, elsewhere),
    ),
    Case(
        "adapter with NaN",
        "Weights of adapter 'lcm' from …lcm_lora, or of its base, are not finite; train or fetch it again.",
        tensors(LORA, lambda key, value: (key, value * torch.nan)),
    ),
    Case(
        "adapter of zeros",
        "Adapter 'lcm' from …lcm_lora is not active: it changes no layer of the UNet; train it again.",
        tensors(LORA, lambda key, value: (key, value * 0)),
    ),
    Case(
        "adapter without layers",
        f"…{LORA} holds no layer of a LoRA for a UNet; take another adapter.",
        tensors(LORA, lambda key, value: (f"other.{key[-9:]}", value)),
    ),
]
PINS = {
    "labelling.model": Case(
        "model folder that is not there",
        "Model folder /no/where does not exist; correct the id '/no/where' in the profile.",
        lambda: ModelPin(id="/no/where", sha256="0" * 64, licence="MIT"),
    ),
    "training.base": Case(
        "model folder of another sha256",
        f"Model folder … has sha256 …, but {'0' * 64} is pinned; restore the files, or pin the new ones on purpose.",
        lambda: ModelPin(id=str(EMBEDDED / "sd"), sha256="0" * 64, licence="MIT"),
    ),
    "generation.lcm_lora": Case(
        "labeller in the place of the LCM-LoRA",
        f"…{LORA} is no file; put the file there, or correct what names it.",
        lambda: ModelPin(id="embedded:clip", licence="MIT"),
    ),
    "evaluation.features": Case(
        "labeller in the place of the vision transformer",
        f"…clip cannot be loaded (…); {HINT}",
        lambda: ModelPin(id="embedded:clip", licence="MIT"),
    ),
}
KINDS = {
    "labelling.model": ("clip", LABELLER),
    "training.base": ("sd", BASE),
    "generation.lcm_lora": ("lcm_lora", ADAPTER),
}
LOADED_BY = {"labelling.model": "image_embeddings", "evaluation.features": "image_metrics"}
FOLDERS = [case for _, cases in KINDS.values() for case in cases]
DEVICE = Case(
    '`execution.device = "cuda"` where there is none',
    "execution.device is 'cuda' but torch finds no CUDA device; set it to 'auto' or 'cpu'.",
    lambda profile: shrink(profile, execution={"device": "cuda"}),
)
CASES = [*FOLDERS, *PINS.values(), DEVICE]


def pinned(profile: Profile, field: str, pin: ModelPin) -> Profile:
    section, key = field.split(".")
    return profile.model_copy(update={section: getattr(profile, section).model_copy(update={key: pin})})


def refused(profile: Profile, root: Path, field: str, case: Case) -> None:
    before = snapshot(root)
    result = materialize(profile, root, [LOADED_BY.get(field, "baseline_images")])
    assert not result.success
    check(case, sentence(result))
    assert snapshot(root) == before


@pytest.fixture
def where(request, tiny, project) -> Callable[[str], tuple[Profile, Path]]:
    """Profile and folder for a field: the base and its adapters are loaded in an empty project, the others need what stands upstream."""
    return lambda field: request.getfixturevalue("copied") if field in LOADED_BY else (tiny, project)


@each(FOLDERS)
def test_a_damaged_model_is_a_sentence(case, where, tmp_path):
    field, kind = next((field, kind) for field, (kind, cases) in KINDS.items() if case in cases)
    folder = tmp_path / "models" / kind
    shutil.copytree(EMBEDDED / kind, folder)
    case.make(folder)
    profile, root = where(field)
    refused(
        pinned(profile, field, ModelPin(id=str(folder), sha256=folder_digest(folder), licence="MIT")),
        root,
        field,
        case,
    )


@pytest.mark.parametrize("field", PINS)
def test_a_model_that_is_another_is_a_sentence(field, where):
    profile, root = where(field)
    refused(pinned(profile, field, PINS[field].make()), root, field, PINS[field])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_a_sentence(tiny, project):
    refused(DEVICE.make(tiny), project, "", DEVICE)
