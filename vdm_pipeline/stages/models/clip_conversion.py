"""Build one open_clip folder from the labeller's pins: safetensors weights and the text tower's config."""

import shutil
from pathlib import Path

from vdm_pipeline.errors import ModelError
from vdm_pipeline.io.atomic import atomic_file, replace_path
from vdm_pipeline.io.progress import Log
from vdm_pipeline.io.tensors import translate_safetensors_errors
from vdm_pipeline.settings import Labelling, ModelPin, fingerprint
from vdm_pipeline.stages.models.loading import loading
from vdm_pipeline.stages.models.pins import resolve_model
from vdm_pipeline.stages.models.verified_folder import VerifiedFolder

WEIGHTS = "open_clip_model.safetensors"
RECORD, HASHES_KEY = ".made_from.json", "files"
TEXT = "text"
"""Subfolder with the configuration of the text tower, if that is a transformers model."""


def labeller_folder(labelling: Labelling, log: Log = print) -> Path:
    """Folder of the pinned labeller.

    A pickle from a hub is verified by its sha256, read once without running code (``weights_only``), and kept
    as safetensors in the hub's cache, beside the repository's tokenizer and the pinned configuration of the
    text tower.

    Raises what `resolve_model` raises, and `ModelError` for a pickle that holds more than tensors.
    """
    source = resolve_model(labelling.model, log)
    if labelling.text_model is None and not _has_pickles(labelling.model):
        return source
    text_source = resolve_model(labelling.text_model, log) if labelling.text_model else None
    name = fingerprint(labelling.model, labelling.text_model)
    folder = VerifiedFolder.in_cache("labellers", name, RECORD, HASHES_KEY)
    with folder.lock(log, "another process is converting the labeller; waiting for it"):
        if not folder.is_intact():
            _assemble(source, text_source, labelling.model, folder, log)
    return folder.path


def _has_pickles(pin: ModelPin) -> bool:
    return any(not name.endswith(".safetensors") for name in pin.weights or {})


def _assemble(
    source: Path, text_source: Path | None, pin: ModelPin, folder: VerifiedFolder, log: Log
) -> None:
    """Build the folder in a staging folder beside it and publish it by rename."""
    staging = folder.at(folder.path.with_name(f".{folder.path.name}.00000000.part"))
    try:
        _copy_descriptions(source, staging.path)
        _save_weights(source, pin, staging.path / WEIGHTS, log)
        if text_source:
            _copy_descriptions(text_source, staging.path / TEXT)
        staging.write_record({"weights": pin.weights})
        replace_path(staging.path, folder.path)
    finally:
        shutil.rmtree(staging.path, ignore_errors=True)  # after an error


def _copy_descriptions(source: Path, target: Path) -> None:
    """Copy configurations and vocabularies."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.suffix in (".json", ".txt"):
            shutil.copyfile(path, target / path.name)


def _save_weights(folder: Path, pin: ModelPin, path: Path, log: Log) -> None:
    """Write the single weight file of the repository to ``path`` as safetensors."""
    names = list(pin.weights or {})
    if len(names) != 1:
        raise ModelError(
            f"The pin of '{pin.id}' in labelling.model names {len(names)} weight files; name exactly one."
        )
    source = folder / names[0]
    _check_room(path, source.stat().st_size)
    with atomic_file(path) as temporary:
        if source.suffix == ".safetensors":
            shutil.copyfile(source, temporary)
        else:
            log(f"{pin.id}: converting {names[0]} to safetensors, once")
            _convert(source, temporary)


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise ModelError(
            f"{path} needs {needed / 1e9:.1f} GB, but its disk has {free / 1e9:.1f} GB left; "
            "make room, or set HF_HOME to a folder on another disk."
        )


def _convert(pickle: Path, path: Path) -> None:
    """Write the tensors of a pickle as safetensors, cloned because that format forbids shared memory."""
    import torch
    from safetensors.torch import save_file

    with loading(pickle):
        content = torch.load(pickle, map_location="cpu", weights_only=True)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(
            f"{pickle} does not hold named tensors and nothing else; pin another revision of the model."
        )
    with translate_safetensors_errors(path):
        save_file({name: value.clone().contiguous() for name, value in state.items()}, path)
