"""All stages in order: train, export, measure."""

import argparse
import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vdm_pipeline.embedded.training import clip, lcm, sd, vae
from vdm_pipeline.embedded.training.cards import MODELS, read_figures, write_figures
from vdm_pipeline.embedded.training.export import (
    export,
    training_facts,
    write_clip,
    write_lcm,
    write_pins,
    write_sd,
)
from vdm_pipeline.embedded.training.figures import COUNT, measure
from vdm_pipeline.embedded.training.run import Run, check_writable, open_run
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.disk import translate_disk_errors
from vdm_pipeline.stages.runtime.device import device_name

STEPS = {"clip": clip.STEPS, "vae": vae.STEPS, "sd": sd.STEPS, "lcm": lcm.STEPS}
AFTER = {"sd": "vae", "lcm": "sd"}
"""The stage before, whose model a stage trains on."""
FILMS = {
    "clip": (clip.IMAGES_PER_CLASS, clip.IMAGES_PER_CLASS),
    "vae": (vae.IMAGES_PER_CLASS, vae.IMAGES_PER_CLASS),
    "sd": (sd.HEALTHY_IMAGES, 0),
}
"""Films that a stage trains on: healthy, and with pneumonia."""
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
MIN_COUNT = 16
"""Fewest phantoms for the figures of a short trial."""


def train_and_export(options: argparse.Namespace) -> None:
    """Train the stages of ``options.only``; export them at the end, together, and measure all models.

    Raises `PipelineError` for a folder, file or device that cannot be used.
    """
    work, models, only = options.work, options.export, options.only
    check_writable(models)
    if options.real is not None and not options.real.is_file():
        raise PipelineError(f"--real: {options.real} is not a file; name a pneumoniamnist.npz of 28 pixels.")
    dtype = DTYPES.get(options.precision)
    log = partial(print, flush=True)
    with (
        translate_disk_errors(work),
        open_run(work, options.device, dtype, options.scale, 60 * options.checkpoint_minutes, log) as run,
    ):
        check_order(run, only)
        log(f"training {', '.join(only)} on {device_name(run.device)}, {str(run.dtype)[6:]}")
        render_ahead(run, only)
        export_models(run, train_stages(run, only), models)
        finish(run, models, options.real)


def check_order(run: Run, only: list[str]) -> None:
    """Raise `PipelineError` if a stage to train lacks the one before, or was trained on an older one."""
    for stage, before in AFTER.items():
        is_before_finished = run.is_finished(before, STEPS[before])
        if stage in only and before not in only and not is_before_finished:
            raise PipelineError(
                f"--only {stage} needs a finished {before}, which {run.work} lacks; add it to --only."
            )
        if not is_before_finished and any((run.work / stage).glob("step_*")):
            raise PipelineError(
                f"{run.work / stage} was trained on another {before} than the one that is trained now; "
                f"delete {run.work / stage}, or name another work folder."
            )


def render_ahead(run: Run, only: list[str]) -> None:
    """Let the workers render what unfinished stages train on, in the order in which it is needed."""
    for stage, (healthy, pneumonia) in FILMS.items():
        if stage in only and not run.is_finished(stage, STEPS[stage]):
            run.films.render_ahead(run.scaled(healthy), pneumonia=False)
            if pneumonia:
                run.films.render_ahead(run.scaled(pneumonia), pneumonia=True)


def train_stages(run: Run, only: list[str]) -> dict[str, Any]:
    """Train, or load what is finished; return the functions that write each exported model."""
    writers: dict[str, Any] = {}
    if "clip" in only:
        writers["clip"] = partial(write_clip, clip.train_clip(run))
    if set(only) == {"clip"}:
        return writers
    autoencoder = vae.train_vae(run)
    if "sd" in only or "lcm" in only:
        unet, text = sd.train_sd(run, autoencoder)
        if "sd" in only:
            writers["sd"] = partial(write_sd, autoencoder, unet, text)
        if "lcm" in only:
            writers["lcm_lora"] = partial(
                write_lcm, lcm.train_lcm(run, autoencoder, copy.deepcopy(unet), text)
            )
    return writers


def export_models(run: Run, writers: dict[str, Any], models: Path) -> None:
    """Write the models, and to figures.json how they were trained."""
    figures, facts = read_figures(models), training_facts(run)
    for name, write in writers.items():
        export(models / name, write)
        parts = ("vae", "sd") if name == "sd" else (name,)
        figures["training"] = figures.get("training", {}) | {part: facts[part] for part in parts}
        run.log(f"exported {models / name}")
    write_figures(models, figures)


def finish(run: Run, models: Path, real: Path | None) -> None:
    """Write pins, figures and cards, as soon as all models are there: their figures depend on each other."""
    missing = [name for name in MODELS if not (models / name).is_dir()]
    if missing:
        run.log(f"no model cards and pins yet: {models} lacks {', '.join(missing)}")
        return
    write_pins(models)
    measure(models, run.device, max(MIN_COUNT, min(COUNT, run.scaled(COUNT))), real)
    run.log(f"measured; see {models / 'figures.json'} and the model cards")
