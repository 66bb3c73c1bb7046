"""The model cards: templates with the figures of ``figures.json`` and the values of the models' own files."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from safetensors import safe_open

from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.io.tables import read_json
from vdm_pipeline.io.tensors import LORA_WEIGHTS

MODELS = ("clip", "sd", "lcm_lora")


def read_figures(models: Path) -> dict[str, Any]:
    """How the models were trained and what was measured on them; empty before the first export."""
    path = models / "figures.json"
    return read_json(path) if path.exists() else {}


def write_figures(models: Path, figures: dict[str, Any]) -> None:
    """Write ``figures.json``."""
    write_text(models / "figures.json", json.dumps(figures, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_cards(models: Path) -> None:
    """Write the README.md of every model."""
    for name, card in render_cards(models).items():
        write_text(models / name / "README.md", card)


def render_cards(models: Path) -> dict[str, str]:
    """The text of each model's card."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "card_templates"),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"fixed": _fixed, "thousands": "{:,}".format, "interval": _interval}
    values = read_figures(models) | model_values(models)
    return {name: environment.get_template(f"{name}.md.jinja").render(values) for name in MODELS}


def model_values(models: Path) -> dict[str, Any]:
    """Configurations, the parameters of UNet and autoencoder in millions, and the rank of the LCM-LoRA."""
    sd = models / "sd"
    parameters = {
        name: _parameters(sd / name / "diffusion_pytorch_model.safetensors") / 1e6 for name in ("unet", "vae")
    }
    with safe_open(models / "lcm_lora" / LORA_WEIGHTS, "pt") as file:
        rank = json.loads(file.metadata()["lora_adapter_metadata"])["unet.r"]
    return {
        "clip": read_json(models / "clip/open_clip_config.json")["model_cfg"],
        "vae": read_json(sd / "vae/config.json"),
        "unet": read_json(sd / "unet/config.json"),
        "text": read_json(sd / "text_encoder/config.json"),
        "parameters": parameters,
        "rank": rank,
    }


def _parameters(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118


def _fixed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def _interval(bounds: tuple[float, float]) -> str:
    return f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"
