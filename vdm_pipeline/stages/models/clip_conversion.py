"""The labeller's pins as one folder that open_clip opens: weights in safetensors, and beside them what its text tower is built after."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from vdm_pipeline.errors import ModelError
from vdm_pipeline.io.atomic import atomic_file, replace_path, write_text
from vdm_pipeline.io.hashing import folder_hashes
from vdm_pipeline.io.lock import locked
from vdm_pipeline.io.tensors import system_faults
from vdm_pipeline.settings import Labelling, ModelPin, fingerprint
from vdm_pipeline.stages.models.loading import loading
from vdm_pipeline.stages.models.pins import resolve_model

Log = Callable[[str], None]

WEIGHTS = "open_clip_model.safetensors"
RECORD = ".made_from.json"
TEXT = "text"
"""Folder of the configuration that the text tower is built after, where it is a transformers model."""


def labeller_folder(labelling: Labelling, log: Log = print) -> Path:
    """Folder of the pinned labeller.

    A hub's pickle is read once, without code in it being run (``weights_only``), after its sha256 was found right, and kept as
    safetensors in the hub's cache, beside the repository's tokenizer and the pinned configuration of the text tower. Raises what
    `resolve_model` raises, and `ModelError` for a pickle that holds more than tensors.
    """
    folder = resolve_model(labelling.model, log)
    if labelling.text_model is None and not _pickles(labelling.model):
        return folder
    from huggingface_hub import cached_assets_path

    text = resolve_model(labelling.text_model, log) if labelling.text_model else None
    name = fingerprint(labelling.model, labelling.text_model)
    place = Path(cached_assets_path("vdm_pipeline", namespace="labellers", subfolder=name))
    with locked(
        place.with_name(f".{name}.lock"),
        {},
        lambda _: log("another process makes the labeller's folder; waiting for it"),
    ):
        if not _is_intact(place):
            _assemble(folder, text, labelling.model, place, log)
    return place


def _pickles(pin: ModelPin) -> list[str]:
    return [name for name in pin.weights or {} if not name.endswith(".safetensors")]


def _is_intact(place: Path) -> bool:
    """Whether every file is as it was written; the record is written last."""
    try:
        record = json.loads((place / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("files") == folder_hashes(place)


def _assemble(folder: Path, text: Path | None, pin: ModelPin, place: Path, log: Log) -> None:
    staging = place.with_name(f".{place.name}.00000000.part")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _copy_descriptions(folder, staging)
        _save_weights(folder, pin, staging / WEIGHTS, log)
        if text:
            _copy_descriptions(text, staging / TEXT)
        write_text(
            staging / RECORD, json.dumps({"weights": pin.weights, "files": folder_hashes(staging)}, indent=1)
        )
        replace_path(staging, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # what a fault leaves


def _copy_descriptions(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.suffix in (".json", ".txt"):
            shutil.copyfile(path, target / path.name)


def _save_weights(folder: Path, pin: ModelPin, path: Path, log: Log) -> None:
    """The repository's one file of weights, as safetensors."""
    names = list(pin.weights or {})
    if len(names) != 1:
        raise ModelError(
            f"The weights of '{pin.id}' must be one file, and its pin in labelling.model names {len(names)}; name that one."
        )
    source = folder / names[0]
    free, needed = shutil.disk_usage(path.parent).free, source.stat().st_size
    if free < needed:
        raise ModelError(
            f"{path} takes {needed / 1e9:.1f} GB, and its disk has {free / 1e9:.1f} GB left; make room, or set HF_HOME."
        )
    with atomic_file(path) as temporary:
        if source.suffix == ".safetensors":
            shutil.copyfile(source, temporary)
        else:
            log(f"{pin.id}: converting {names[0]} to safetensors, once")
            _convert(source, temporary)


def _convert(pickled: Path, path: Path) -> None:
    """Tensors of a pickle, and nothing else, to safetensors: each with memory of its own, as that format asks."""
    import torch
    from safetensors.torch import save_file

    with loading(pickled):
        found = torch.load(pickled, map_location="cpu", weights_only=True)
    state = found.get("state_dict", found) if isinstance(found, dict) else None
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(
            f"{pickled} holds more, or less, than named tensors; take another revision of the model."
        )
    with system_faults(path):
        save_file({name: value.clone().contiguous() for name, value in state.items()}, path)
