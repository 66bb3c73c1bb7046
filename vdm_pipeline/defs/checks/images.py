"""Checks of the images of every arm and of their metrics, on the written files."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.checks.check_factory import (
    ERROR,
    WARN,
    Check,
    Severity,
    check,
    metadata_rows,
    warn_only,
)
from vdm_pipeline.graph import ARMS, LORA_AND_BASELINE
from vdm_pipeline.incremental.project import AssetHandle, Project, Upstream

if TYPE_CHECKING:
    from vdm_pipeline.stages.check_outcome import CheckOutcome

Rows = list[dict[str, Any]]
ExamineArm = Callable[[Project, Path, Rows], "CheckOutcome"]
"""Examines one arm: its folder and the rows of its ``metadata.jsonl``."""


def images_are_complete(project: Project, folder: Path, rows: Rows) -> "CheckOutcome":
    """Blocks an arm that lacks a planned image, or holds another one."""
    from vdm_pipeline.stages.generation.check_outcomes import complete
    from vdm_pipeline.stages.generation.plan import plan

    existing = [row for row in rows if (folder / row["file_name"]).is_file()]
    samples = plan(project.profile.classes, project.profile.generation)
    planned = [
        {
            "file_name": sample.file_name,
            "label": sample.label,
            "prompt": sample.prompt,
            "seed": sample.seed,
        }
        for sample in samples
    ]
    return complete(existing, planned)


def images_are_not_blank(project: Project, folder: Path, rows: Rows) -> "CheckOutcome":
    """Blocks blank or saturated images before they are scored."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.generation.check_outcomes import sound_pixels

    return sound_pixels(read_folder(folder, rows), project.profile.faults)


def images_are_different(project: Project, folder: Path, rows: Rows) -> "CheckOutcome":
    """Blocks repeated images before they are scored."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.generation.check_outcomes import all_different

    return all_different(read_folder(folder, rows))


def images_are_grey(project: Project, folder: Path, rows: Rows) -> "CheckOutcome":
    """Warns of images that the model generated in colour, unless the archive is in colour."""
    from vdm_pipeline.stages.generation.check_outcomes import grey_enough

    profile = project.profile
    return grey_enough([row["chroma"] for row in rows], profile.checks.max_chroma, profile.data.in_colour)


def prompts_are_captions(project: Project, upstream: Upstream) -> "CheckOutcome":
    """Every prompt is a caption that the LoRA was trained on, and fits the text encoder."""
    from vdm_pipeline.stages.generation.check_outcomes import prompts_fit
    from vdm_pipeline.stages.models.diffusion import load_component
    from vdm_pipeline.stages.models.pins import resolve_model

    prompts = [row["prompt"] for row in metadata_rows(upstream["generated_images"])]
    captions = [row["text"] for row in metadata_rows(upstream["lora_subset"])]
    tokenizer = load_component(resolve_model(project.profile.training.base), "tokenizer")
    tokens = {text: len(tokenizer(text)["input_ids"]) for text in sorted({*prompts, *captions})}
    return prompts_fit(prompts, captions, tokens, tokenizer.model_max_length)


def arms_share_one_plan(project: Project, upstream: Upstream) -> "CheckOutcome":
    """The arms differ only in the LoRA. The plan guarantees it; this check proves it on the files."""
    from vdm_pipeline.stages.evaluation.check_outcomes import same_plan

    return same_plan(*(metadata_rows(upstream[arm]) for arm in LORA_AND_BASELINE))


def adapter_is_active(project: Project, upstream: Upstream) -> "CheckOutcome":
    """The LoRA changes every image by more than rounding does."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.evaluation.check_outcomes import adapter_acts

    arms = (upstream[arm] for arm in LORA_AND_BASELINE)
    generated, baseline = (read_folder(arm["folder"], metadata_rows(arm)) for arm in arms)
    return adapter_acts(generated, baseline, project.profile.checks.min_adapter_change)


def lora_beats_baseline(project: Project, upstream: Upstream) -> "CheckOutcome":
    """Warns unless the LoRA brings images closer to real ones, beyond the intervals."""
    from vdm_pipeline.io.tables import read_json
    from vdm_pipeline.stages.evaluation.check_outcomes import closer_than_baseline

    return closer_than_baseline(read_json(upstream["image_metrics"]["metrics"]))


def images_are_not_copies(project: Project, upstream: Upstream) -> "CheckOutcome":
    """Fails if images are copies of training images, and warns where that is unclear. The report shows it."""
    from vdm_pipeline.io.tables import read_json
    from vdm_pipeline.stages.evaluation.check_outcomes import find_copies

    metrics = read_json(upstream["image_metrics"]["metrics"])
    found = find_copies(metrics["memorization"], project.profile.checks.max_copied)
    return dataclasses.replace(found.outcome, figures={**found.outcome.figures, "copies": found.state})


def _error_if_copied(project: Project, outcome: "CheckOutcome") -> dg.AssetCheckSeverity:
    return ERROR if outcome.figures["copies"] == "some" else WARN


def _check_every_arm(
    asset: str, examine_arm: ExamineArm, severity: Severity = lambda project, outcome: ERROR
) -> Check:
    """A check that examines each arm in the asset's folder."""

    def examine(project: Project, upstream: Upstream) -> "CheckOutcome":
        arms = _arms(upstream[asset])
        return _combined({name: examine_arm(project, folder, rows) for name, folder, rows in arms})

    return Check(asset, examine_arm.__name__, examine_arm.__doc__ or "", examine, severity)


def _arms(images: AssetHandle) -> Iterator[tuple[str, Path, Rows]]:
    """Name, folder and rows of each arm of the asset: the asset itself, or those that ``arms.json`` lists."""
    from vdm_pipeline.io.tables import read_json, read_rows

    folders = {images.asset: images["folder"]}
    arms_file = images["folder"] / "arms.json"
    if arms_file.is_file():
        folders = {name: images["folder"] / name for name in read_json(arms_file)}
    for name, folder in folders.items():
        yield name, folder, read_rows(folder / "metadata.jsonl")


def _combined(outcomes: dict[str, "CheckOutcome"]) -> "CheckOutcome":
    """One outcome of several arms; names the arm where there is more than one."""
    from vdm_pipeline.stages.check_outcome import CheckOutcome

    if len(outcomes) == 1:
        return next(iter(outcomes.values()))
    sentences = [f"{name}: {outcome.sentence}" for name, outcome in outcomes.items()]
    figures = {
        f"{key}_{name}": value for name, outcome in outcomes.items() for key, value in outcome.figures.items()
    }
    passed = all(outcome.passed for outcome in outcomes.values())
    return CheckOutcome(passed, "; ".join(sentences) or "no extra arm is configured", figures)


IMAGE_CHECKS = [
    *(
        _check_every_arm(asset, examine)
        for asset in ARMS
        for examine in (images_are_complete, images_are_not_blank, images_are_different)
    ),
    *(_check_every_arm(asset, images_are_grey, warn_only) for asset in ARMS),
    check("generated_images", prompts_are_captions),
    check("image_metrics", arms_share_one_plan),
    check("image_metrics", adapter_is_active),
    check("image_metrics", lora_beats_baseline, warn_only),
    check("image_metrics", images_are_not_copies, _error_if_copied),
]
