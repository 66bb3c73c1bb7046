"""Checks of the images of every arm, and of what was measured of them: `vdm_pipeline.stages.image_findings` on what was written."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.checks.check_factory import ERROR, WARN, Check, Find, rows_of, warns
from vdm_pipeline.graph import ARMS, PAIR
from vdm_pipeline.incremental.project import AssetHandle, Inputs, Project

if TYPE_CHECKING:
    from vdm_pipeline.stages.check_outcome import CheckOutcome

    pass

Rows = list[dict[str, Any]]


def images_are_complete(run: Project, folder: Path, rows: Rows) -> "CheckOutcome":
    """Stops the run unless every planned image is there, and no other."""
    from vdm_pipeline.stages.generation.check_outcomes import complete
    from vdm_pipeline.stages.generation.plan import plan

    samples = plan(run.profile.classes, run.profile.generation)
    there = [row for row in rows if (folder / row["file_name"]).is_file()]
    return complete(there, [{"file_name": s.file_name, "label": s.label, "prompt": s.prompt, "seed": s.seed} for s in samples])


def images_are_not_blank(run: Project, folder: Path, rows: Rows) -> "CheckOutcome":
    """Stops the run before blank or saturated images are scored."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.generation.check_outcomes import sound_pixels

    return sound_pixels(read_folder(folder, rows), run.profile.faults)


def images_are_different(run: Project, folder: Path, rows: Rows) -> "CheckOutcome":
    """Stops the run before the same image is scored twice."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.generation.check_outcomes import all_different

    return all_different(read_folder(folder, rows))


def images_are_grey(run: Project, folder: Path, rows: Rows) -> "CheckOutcome":
    """Warns of images that were drawn in colour."""
    from vdm_pipeline.stages.generation.check_outcomes import grey_enough

    return grey_enough([row["chroma"] for row in rows], run.profile.checks.max_chroma)


def in_every_arm(asset: str, find: Callable[[Project, Path, Rows], "CheckOutcome"]) -> Find:
    """The check of one arm, in all arms of an asset's folder."""

    def found(run: Project, upstream: Inputs) -> "CheckOutcome":
        return _together({arm: find(run, folder, rows) for arm, folder, rows in _arms(upstream[asset])})

    found.__name__, found.__doc__ = find.__name__, find.__doc__
    return found


def prompts_are_captions(run: Project, upstream: Inputs) -> "CheckOutcome":
    """Images are asked for in words that the adapter learnt, and the text encoder reads all of them."""
    from vdm_pipeline.stages.generation.check_outcomes import prompts_fit
    from vdm_pipeline.stages.models.diffusion import load_part
    from vdm_pipeline.stages.models.pins import resolve_model

    prompts, captions = (
        [row["prompt"] for row in rows_of(upstream["generated_images"])],
        [row["text"] for row in rows_of(upstream["lora_subset"])],
    )
    tokenizer = load_part(resolve_model(run.profile.training.base), "tokenizer")
    tokens = {text: len(tokenizer(text)["input_ids"]) for text in sorted({*prompts, *captions})}
    return prompts_fit(prompts, captions, tokens, tokenizer.model_max_length)


def arms_share_one_plan(run: Project, upstream: Inputs) -> "CheckOutcome":
    """The comparison is fair by construction; here it is proven on what was written."""
    from vdm_pipeline.stages.evaluation.check_outcomes import same_plan

    return same_plan(*(rows_of(upstream[arm]) for arm in PAIR))


def adapter_is_active(run: Project, upstream: Inputs) -> "CheckOutcome":
    """Our adapter changes every image by more than rounding does."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.evaluation.check_outcomes import adapter_acts

    generated, baseline = (read_folder(upstream[arm]["folder"], rows_of(upstream[arm])) for arm in PAIR)
    return adapter_acts(generated, baseline, run.profile.checks.min_adapter_change)


def lora_beats_baseline(run: Project, upstream: Inputs) -> "CheckOutcome":
    """Warns unless our adapter brings images closer to real ones, beyond the intervals."""
    from vdm_pipeline.io.tables import read_json
    from vdm_pipeline.stages.evaluation.check_outcomes import closer_than_baseline

    return closer_than_baseline(read_json(upstream["image_metrics"]["metrics"]))


def images_are_no_copies(run: Project, upstream: Inputs) -> "CheckOutcome":
    """Fails when images are copies of training images, and warns where that is not clear; the report, made all the same, says so."""
    from vdm_pipeline.io.tables import read_json
    from vdm_pipeline.stages.evaluation.check_outcomes import copies

    found = copies(read_json(upstream["image_metrics"]["metrics"])["memorization"], run.profile.checks.max_copied)
    return dataclasses.replace(found.outcome, figures={**found.outcome.figures, "copies": found.state})


def _if_copied(run: Project, outcome: "CheckOutcome") -> dg.AssetCheckSeverity:
    return ERROR if outcome.figures["copies"] == "some" else WARN


def _arms(images: AssetHandle) -> Iterator[tuple[str, Path, Rows]]:
    """Name, folder and rows of each arm that the asset holds: itself, or those that its ``arms.json`` lists."""
    from vdm_pipeline.io.tables import read_json, read_rows

    folder = images["folder"]
    listed = folder / "arms.json"
    for name, place in {name: folder / name for name in read_json(listed)}.items() if listed.is_file() else [(images.asset, folder)]:
        yield name, place, read_rows(place / "metadata.jsonl")


def _together(outcomes: dict[str, "CheckOutcome"]) -> "CheckOutcome":
    """One finding of several arms; the arm is named where there is more than one."""

    if len(outcomes) == 1:
        return next(iter(outcomes.values()))
    sentence = "; ".join(f"{name}: {outcome.sentence}" for name, outcome in outcomes.items()) or "no extra arm is asked for"
    figures = {f"{key}_{name}": value for name, outcome in outcomes.items() for key, value in outcome.figures.items()}
    return CheckOutcome(all(outcome.passed for outcome in outcomes.values()), sentence, figures)


IMAGE_CHECKS = [
    *(
        Check(asset, in_every_arm(asset, find))
        for asset in ARMS
        for find in (images_are_complete, images_are_not_blank, images_are_different)
    ),
    *(Check(asset, in_every_arm(asset, images_are_grey), warns) for asset in ARMS),
    Check("generated_images", prompts_are_captions),
    Check("image_metrics", arms_share_one_plan),
    Check("image_metrics", adapter_is_active),
    Check("image_metrics", lora_beats_baseline, warns),
    Check("image_metrics", images_are_no_copies, _if_copied),
]
