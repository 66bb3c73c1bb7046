"""Checks of the images of every arm, and of what was measured of them."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.checks.told import ERROR, WARN, Result, look, rows_of
from vdm_pipeline.resources import Run, Stored

if TYPE_CHECKING:
    from vdm_pipeline.stages.findings import Finding

Rows = list[dict[str, Any]]
ARMS = {name: dg.AssetIn(name) for name in ("generated_images", "baseline_images")}


def _complete(run: Run, folder: Path, rows: Rows) -> "Finding":
    """Stops the run unless every planned image is there, and no other."""
    from vdm_pipeline.stages.image_findings import complete
    from vdm_pipeline.stages.sampling.plan import plan

    shots = plan(run.profile.classes, run.profile.generation)
    there = [row for row in rows if (folder / row["file_name"]).is_file()]
    return complete(there, [{"file_name": s.file_name, "label": s.label, "prompt": s.prompt, "seed": s.seed} for s in shots])


def _not_blank(run: Run, folder: Path, rows: Rows) -> "Finding":
    """Stops the run before blank or saturated images are scored."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.image_findings import sound_pixels

    return sound_pixels(read_folder(folder, rows), run.profile.faults)


def _different(run: Run, folder: Path, rows: Rows) -> "Finding":
    """Stops the run before the same image is scored twice."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.image_findings import all_different

    return all_different(read_folder(folder, rows))


def _grey(run: Run, folder: Path, rows: Rows) -> "Finding":
    """Warns of images that were drawn in colour."""
    from vdm_pipeline.stages.image_findings import grey_enough

    return grey_enough([row["chroma"] for row in rows], run.profile.checks.max_chroma)


OF_AN_ARM: dict[str, Callable[[Run, Path, Rows], "Finding"]] = {
    "images_are_complete": _complete,
    "images_are_not_blank": _not_blank,
    "images_are_different": _different,
    "images_are_grey": _grey,
}


def arm_check(asset: str, name: str) -> dg.AssetChecksDefinition:
    """One check of all arms in an asset's folder; grey alone is a warning and stops nothing."""
    of_arm, blocking = OF_AN_ARM[name], name != "images_are_grey"

    @dg.asset_check(asset=asset, name=name, blocking=blocking, description=of_arm.__doc__)
    def check(context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Run], images: Stored) -> Result:
        def find() -> "Finding":
            return _together({arm: of_arm(run, folder, rows) for arm, folder, rows in _arms(images)})

        return look(context, run, find, [images], ERROR if blocking else WARN)

    return check


@dg.asset_check(asset="generated_images", additional_ins={"lora_subset": dg.AssetIn("lora_subset")})
def prompts_are_captions(
    context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Run], generated_images: Stored, lora_subset: Stored
) -> Result:
    """Images are asked for in words that the adapter learnt, and the text encoder reads all of them."""

    def find() -> "Finding":
        from vdm_pipeline.stages.diffusion import load_part
        from vdm_pipeline.stages.image_findings import prompts_fit
        from vdm_pipeline.stages.models import resolve_model

        prompts, captions = [row["prompt"] for row in rows_of(generated_images)], [row["text"] for row in rows_of(lora_subset)]
        tokenizer = load_part(resolve_model(run.profile.training.base), "tokenizer")
        tokens = {text: len(tokenizer(text)["input_ids"]) for text in sorted({*prompts, *captions})}
        return prompts_fit(prompts, captions, tokens, tokenizer.model_max_length)

    return look(context, run, find, [generated_images, lora_subset])


@dg.asset_check(asset="image_metrics", additional_ins=ARMS)
def arms_share_one_plan(
    context: dg.AssetCheckExecutionContext,
    run: dg.ResourceParam[Run],
    image_metrics: Stored,
    generated_images: Stored,
    baseline_images: Stored,
) -> Result:
    """The comparison is fair by construction; here it is proven on what was written."""

    def find() -> "Finding":
        from vdm_pipeline.stages.image_findings import same_plan

        return same_plan(rows_of(generated_images), rows_of(baseline_images))

    return look(context, run, find, [image_metrics, generated_images, baseline_images])


@dg.asset_check(asset="image_metrics", additional_ins=ARMS)
def adapter_is_active(
    context: dg.AssetCheckExecutionContext,
    run: dg.ResourceParam[Run],
    image_metrics: Stored,
    generated_images: Stored,
    baseline_images: Stored,
) -> Result:
    """Our adapter changes every image by more than rounding does."""

    def find() -> "Finding":
        from vdm_pipeline.io.images import read_folder
        from vdm_pipeline.stages.image_findings import adapter_acts

        images = [read_folder(arm["folder"], rows_of(arm)) for arm in (generated_images, baseline_images)]
        return adapter_acts(images[0], images[1], run.profile.checks.min_adapter_change)

    return look(context, run, find, [image_metrics, generated_images, baseline_images])


@dg.asset_check(asset="image_metrics")
def lora_beats_baseline(context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Run], image_metrics: Stored) -> Result:
    """Warns unless our adapter brings images closer to real ones, beyond the intervals."""

    def find() -> "Finding":
        from vdm_pipeline.io.tables import read_json
        from vdm_pipeline.stages.image_findings import closer_than_baseline

        return closer_than_baseline(read_json(image_metrics["metrics"]))

    return look(context, run, find, [image_metrics], WARN)


@dg.asset_check(asset="image_metrics")
def images_are_no_copies(context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Run], image_metrics: Stored) -> Result:
    """Fails when images are copies of training images, and warns where that is not clear; the report, made all the same, says so."""

    def find() -> "Finding":
        from vdm_pipeline.io.tables import read_json
        from vdm_pipeline.stages.image_findings import copies

        found = copies(read_json(image_metrics["metrics"])["memorization"], run.profile.checks.max_copied)
        return dataclasses.replace(found.finding, figures={**found.finding.figures, "copies": found.state})

    return look(context, run, find, [image_metrics], lambda finding: ERROR if finding.figures["copies"] == "some" else WARN)


def _arms(images: Stored) -> Iterator[tuple[str, Path, Rows]]:
    """Name, folder and rows of each arm that the asset holds: itself, or those that its ``arms.json`` lists."""
    from vdm_pipeline.io.tables import read_json, read_rows

    folder = images["folder"]
    listed = folder / "arms.json"
    for name, place in {name: folder / name for name in read_json(listed)}.items() if listed.is_file() else [(images.asset, folder)]:
        yield name, place, read_rows(place / "metadata.jsonl")


def _together(findings: dict[str, "Finding"]) -> "Finding":
    """One finding of several arms; the arm is named where there is more than one."""
    from vdm_pipeline.stages.findings import Finding

    if len(findings) == 1:
        return next(iter(findings.values()))
    sentence = "; ".join(f"{name}: {finding.sentence}" for name, finding in findings.items()) or "no extra arm is asked for"
    figures = {f"{key}_{name}": value for name, finding in findings.items() for key, value in finding.figures.items()}
    return Finding(all(finding.passed for finding in findings.values()), sentence, figures)


IMAGE_CHECKS = [
    *(arm_check(asset, name) for asset in (*ARMS, "extra_images") for name in OF_AN_ARM),
    prompts_are_captions,
    arms_share_one_plan,
    adapter_is_active,
    lora_beats_baseline,
    images_are_no_copies,
]
