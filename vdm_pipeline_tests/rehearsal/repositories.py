"""Writes repositories in the layout of the published models, with random weights and without a download."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file, save_file

from vdm_pipeline_tests.rehearsal.configurations import PNDM, TEXT_ENCODER, UNET, VAE

Settings = dict[str, Any]

BIOMEDBERT = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
OLD_ATTENTION = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
"""Names of the published autoencoder, which are older than those of today's diffusers."""
ATTENTION, OUTER = ["to_q", "to_k", "to_v", "to_out.0"], ["proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
CONVOLUTIONS = [
    "conv1",
    "conv2",
    "conv_shortcut",
    "downsamplers.0.conv",
    "upsamplers.0.conv",
    "time_emb_proj",
]
LCM_LAYERS = [*ATTENTION, *OUTER, *CONVOLUTIONS]
"""Layers of the published LCM-LoRA. At rank 64, its file has the published size, except for the header."""
KOHYA = {"lora_A": "lora_down", "lora_B": "lora_up"}
"""kohya's names of peft's matrices."""


def write_json(path: Path, content: Any) -> None:
    """Write JSON in the form of the repositories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_sd15(folder: Path) -> Path:
    """Stable Diffusion 1.5, 4.3 GB in fp32, with the old names of the autoencoder and CLIP's vocabulary."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    UNet2DConditionModel.from_config(UNET).save_pretrained(folder / "unet")
    write_json(folder / "unet/config.json", UNET)
    AutoencoderKL.from_config(VAE).save_pretrained(folder / "vae")
    _rename(folder / "vae/diffusion_pytorch_model.safetensors", _old_attention)
    write_json(folder / "vae/config.json", VAE)
    CLIPTextModel(CLIPTextConfig.from_dict(TEXT_ENCODER)).save_pretrained(folder / "text_encoder")
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    _rename(folder / "text_encoder/model.safetensors", lambda name: f"text_model.{name}", positions)
    write_json(folder / "text_encoder/config.json", TEXT_ENCODER)
    write_json(folder / "scheduler/scheduler_config.json", PNDM)
    write_json(
        folder / "model_index.json", {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0"}
    )
    _write_clip_tokenizer(folder / "tokenizer")
    return folder


def _old_attention(name: str) -> str:
    if ".attentions." in name:
        for new, old in OLD_ATTENTION.items():
            name = name.replace(new, old)
    return name


def _rename(file: Path, old: Callable[[str], str], more: dict[str, torch.Tensor] | None = None) -> None:
    """Rename the weights of a file to their old names, and add more tensors."""
    renamed = {old(name): value for name, value in load_file(file).items()}
    save_file(renamed | (more or {}), file, {"format": "pt"})


def _write_clip_tokenizer(folder: Path) -> None:
    """CLIP's 49,408 words, from open_clip's list, as vocab.json and merges.txt."""
    from open_clip.tokenizer import bytes_to_unicode

    vocabulary = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    with gzip.open(vocabulary, "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1:48895]
    letters = list(bytes_to_unicode().values())
    words = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *("".join(merge.split()) for merge in merges),
    ]
    words += ["<|startoftext|>", "<|endoftext|>"]
    write_json(folder / "vocab.json", {word: index for index, word in enumerate(words)})
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }
    write_json(folder / "special_tokens_map.json", special)
    config = {
        "add_prefix_space": False,
        "do_lower_case": True,
        "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    }
    write_json(folder / "tokenizer_config.json", special | config)


def write_lcm_lora(folder: Path, config: Settings = UNET, rank: int = 64) -> Path:
    """The LCM-LoRA of a UNet in fp16, with kohya's names."""
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, get_peft_model_state_dict

    with torch.device("meta"):
        model = UNet2DConditionModel.from_config(config)
        model.add_adapter(LoraConfig(r=rank, target_modules=LCM_LAYERS))
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    for name, value in get_peft_model_state_dict(model).items():
        layer, matrix = name.removesuffix(".weight").rsplit(".", 1)
        key = "lora_unet_" + layer.replace(".", "_")
        noise = torch.randn(value.shape, generator=generator).mul_(0.01).half()
        state[f"{key}.{KOHYA[matrix]}.weight"] = noise
        state[f"{key}.alpha"] = torch.tensor(float(rank)).half()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "pytorch_lora_weights.safetensors")
    return folder


def write_biomedbert(folder: Path, **smaller: Any) -> Path:
    """The repository of the configuration of BiomedCLIP's text tower: BERT base, without weights."""
    from transformers import BertConfig

    config = BertConfig(vocab_size=30522, **smaller).to_dict() | {"architectures": ["BertForMaskedLM"]}
    write_json(folder / "config.json", config)
    _write_bert_tokenizer(folder)
    return folder


def _write_bert_tokenizer(folder: Path) -> None:
    """A vocabulary with PubMedBERT's length. Its pieces are letters, so it can encode every word."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789-.,'()/"]
    pieces += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    pieces += [f"word{index}" for index in range(30522 - len(pieces))]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    special = {
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    }
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        special | {"do_lower_case": True, "tokenizer_class": "BertTokenizer"},
    )


def write_biomedclip(folder: Path, bert: Path, vision: Settings | None = None) -> Path:
    """BiomedCLIP: timm's ViT-B/16 and BERT, 196 million parameters in a pickle, and the tokenizer."""
    vit = {
        "timm_model_name": "vit_base_patch16_224",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 224,
    }
    text = {
        "hf_model_name": BIOMEDBERT,
        "hf_tokenizer_name": BIOMEDBERT,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 256,
    }
    towers = {"embed_dim": 512, "vision_cfg": vision or vit, "text_cfg": text}
    pixels = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    write_json(folder / "open_clip_config.json", {"model_cfg": towers, "preprocess_cfg": pixels})
    _write_bert_tokenizer(folder)
    local_text = {**text, "hf_model_name": str(bert), "hf_model_pretrained": False}
    model = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False, text_cfg=local_text)
    length = model.text.transformer.config.max_position_embeddings
    # older versions of transformers saved the positions
    positions = {"text.transformer.embeddings.position_ids": torch.arange(length)[None]}
    torch.save(model.state_dict() | positions, folder / "open_clip_pytorch_model.bin")
    return folder


def write_dinov2(folder: Path) -> Path:
    """DINOv2 base: 86.6 million parameters."""
    from transformers import Dinov2Config, Dinov2Model

    Dinov2Model(Dinov2Config(image_size=518, patch_size=14)).save_pretrained(folder)
    crop = {"height": 224, "width": 224}
    preprocessing = {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 256},
        "do_center_crop": True,
        "crop_size": crop,
        "resample": 3,
    }
    pixels = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    write_json(folder / "preprocessor_config.json", preprocessing | pixels)
    return folder
