"""Repositories as the real ones are laid out, file by file and name by name, with random weights: nothing of them is downloaded."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file, save_file

Settings = dict[str, Any]

CROSS_ATTENTION = 768
"""Width of the text embeddings of Stable Diffusion 1.5."""
BIOMEDBERT = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
PNDM = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
BLOCKS = [320, 640, 1280, 1280]
UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": BLOCKS,
    "center_input_sample": False,
    "cross_attention_dim": CROSS_ATTENTION,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
TEXT_ENCODER = {
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": CROSS_ATTENTION,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "projection_dim": 768,
    "torch_dtype": "float32",
    "transformers_version": "4.22.0.dev0",
    "vocab_size": 49408,
}
OLD_ATTENTION = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
"""Names in the published autoencoder, which is older than those of today's diffusers."""
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
"""Layers that the published LCM-LoRA has; at rank 64 its file has the published one's bytes, give or take its header."""


KOHYA = {"lora_A": "lora_down", "lora_B": "lora_up"}


def write_json(path: Path, content: Any) -> None:
    """As the repositories have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_sd15(folder: Path) -> Path:
    """Stable Diffusion 1.5, 4.3 GB in fp32: unet, autoencoder under its old names, text encoder, CLIP's own vocabulary, PNDM."""
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
    for new, old in OLD_ATTENTION.items() if ".attentions." in name else ():
        name = name.replace(new, old)
    return name


def _rename(file: Path, old: Callable[[str], str], more: dict[str, torch.Tensor] | None = None) -> None:
    """The weights under the names of their time, and what was saved beside them then."""
    save_file(
        {old(name): value for name, value in load_file(file).items()} | (more or {}), file, {"format": "pt"}
    )


def _write_clip_tokenizer(folder: Path) -> None:
    """CLIP's 49,408 words, from the list that open_clip ships, as vocab.json and merges.txt."""
    from open_clip.tokenizer import bytes_to_unicode

    with gzip.open(
        Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz"), "rt", encoding="utf-8"
    ) as listed:
        merges = listed.read().split("\n")[1:48895]
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
    write_json(
        folder / "tokenizer_config.json",
        special
        | {
            "add_prefix_space": False,
            "do_lower_case": True,
            "model_max_length": 77,
            "tokenizer_class": "CLIPTokenizer",
        },
    )


def write_lcm_lora(folder: Path, config: Settings = UNET, rank: int = 64) -> Path:
    """The LCM-LoRA of a UNet: fp16, in kohya's names."""
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, get_peft_model_state_dict

    with torch.device("meta"):
        model = UNet2DConditionModel.from_config(config)
        model.add_adapter(LoraConfig(r=rank, target_modules=LCM_LAYERS))
    generator, state = torch.Generator().manual_seed(0), {}
    for name, value in get_peft_model_state_dict(model).items():
        layer, matrix = name.removesuffix(".weight").rsplit(".", 1)
        key = "lora_unet_" + layer.replace(".", "_")
        drawn = torch.randn(value.shape, generator=generator).mul_(0.01).half()
        state |= {f"{key}.{KOHYA[matrix]}.weight": drawn, f"{key}.alpha": torch.tensor(float(rank)).half()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "pytorch_lora_weights.safetensors")
    return folder


def write_biomedbert(folder: Path, **smaller: Any) -> Path:
    """The repository that BiomedCLIP's text tower is built after: BERT's base size, no weights."""
    from transformers import BertConfig

    config = BertConfig(vocab_size=30522, **smaller).to_dict() | {"architectures": ["BertForMaskedLM"]}
    write_json(folder / "config.json", config)
    _write_bert_tokenizer(folder)
    return folder


def _write_bert_tokenizer(folder: Path) -> None:
    """A vocabulary of BERT's form and of PubMedBERT's length: its pieces are letters, so that every word can be read."""
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
    """BiomedCLIP: a ViT-B/16 of timm's and BERT, 196 million numbers in a pickle, its own copy of the tokenizer, and no BERT's weights."""
    towers = {
        "embed_dim": 512,
        "vision_cfg": vision
        or {
            "timm_model_name": "vit_base_patch16_224",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        },
        "text_cfg": {
            "hf_model_name": BIOMEDBERT,
            "hf_tokenizer_name": BIOMEDBERT,
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 256,
        },
    }
    seen = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    write_json(folder / "open_clip_config.json", {"model_cfg": towers, "preprocess_cfg": seen})
    _write_bert_tokenizer(folder)
    text = towers["text_cfg"] | {"hf_model_name": str(bert), "hf_model_pretrained": False}
    model = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False, text_cfg=text)
    length = model.text.transformer.config.max_position_embeddings
    positions = {
        "text.transformer.embeddings.position_ids": torch.arange(length)[None]
    }  # older transformers saved it
    torch.save(model.state_dict() | positions, folder / "open_clip_pytorch_model.bin")
    return folder


def write_dinov2(folder: Path) -> Path:
    """DINOv2, base: 86.6 million numbers."""
    from transformers import Dinov2Config, Dinov2Model

    Dinov2Model(Dinov2Config(image_size=518, patch_size=14)).save_pretrained(folder)
    crop = {"height": 224, "width": 224}
    seen = {
        "do_resize": True,
        "size": {"shortest_edge": 256},
        "do_center_crop": True,
        "crop_size": crop,
        "resample": 3,
    }
    norm = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    write_json(
        folder / "preprocessor_config.json", {"image_processor_type": "BitImageProcessor"} | seen | norm
    )
    return folder
