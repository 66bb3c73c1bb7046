"""Text of the embedded models: captions of phantoms, and the small CLIP tokenizer that ships with them."""

import gzip
from pathlib import Path

import torch
from transformers import CLIPTokenizer

TEMPLATES = (
    "a chest X-ray, {}",
    "a chest X-ray of {}",
    "a chest X-ray showing {}",
    "a chest radiograph with {}",
    "a frontal chest film, {}",
    "{}",
)
NORMAL = (
    "healthy lungs",
    "clear lungs",
    "normal lungs",
    "a normal chest",
    "a healthy chest",
    "a normal chest X-ray",
)
PNEUMONIA = (
    "pneumonia",
    "consolidation",
    "lung opacity",
    "lobar pneumonia",
    "pulmonary consolidation",
    "pneumonia with opacities",
)
MERGES = 1024
CONTEXT = 77


def captions(pneumonia: bool) -> list[str]:
    """Every template with every phrase of the class, 36 texts."""
    phrases = PNEUMONIA if pneumonia else NORMAL
    return [template.format(phrase) for template in TEMPLATES for phrase in phrases]


def tokens(texts: list[str]) -> torch.Tensor:
    """Token ids ``[n, 77]``, padded and truncated as Stable Diffusion does."""
    encoded = tokenizer()(texts, padding="max_length", truncation=True, max_length=CONTEXT)
    return torch.tensor(encoded["input_ids"])


def tokenizer() -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer with only its first 1,024 merges, so that the text towers stay small.

    Its vocabulary has 1,538 tokens. It encodes any text; rare words take more tokens. The merges come from
    the file that open_clip ships.
    """
    import open_clip

    path = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : MERGES + 1]]
    alphabet = list(_byte_alphabet())
    tokens = alphabet + [character + "</w>" for character in alphabet] + ["".join(merge) for merge in merges]
    vocabulary = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)


def _byte_alphabet() -> list[str]:
    """The 256 printable characters of GPT-2's byte-level BPE, one for each byte, in CLIP's order."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(rest))]
