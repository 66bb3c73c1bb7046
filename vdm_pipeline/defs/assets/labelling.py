"""`image_embeddings`, `labeled_dataset` and `label_metrics`."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset, ray_device_metadata
from vdm_pipeline.defs.previews import file_preview, inline_plots, table_preview
from vdm_pipeline.defs.progress import ProgressLogger
from vdm_pipeline.incremental.project import Project, Upstream
from vdm_pipeline.io.hashing import file_sha256

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from vdm_pipeline.stages.labelling.calibration import Calibration


@pipeline_asset(group="labelling", kinds={"pytorch"}, gpus="one", supports_ray=True)
def image_embeddings(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Embeddings of every image from the labeller's image tower. New prompts reuse them.

    Settings: `[labelling] model`. This is the expensive half of zero-shot labelling. Labels, near duplicates,
    suspect labels, the selection of the subset and one of the two feature spaces of the metrics use them.
    """
    from vdm_pipeline.stages.labelling.embedding_job import EmbeddingJob, embed_images
    from vdm_pipeline.stages.labelling.embeddings import read_embeddings
    from vdm_pipeline.stages.models.clip_conversion import labeller_folder

    profile, folder = project.profile, staging / "embeddings"
    job = EmbeddingJob(
        archive_path=upstream["raw_npz"]["archive"],
        data=profile.data,
        class_names=profile.classes.names,
        labeller_folder=labeller_folder(profile.labelling, context.log.info),
        output_folder=folder,
        execution=profile.execution,
    )
    started_at = time.perf_counter()
    archive, devices = embed_images(job, context.log.info, ProgressLogger(context, "embedding"))
    rate = round(archive.n / (time.perf_counter() - started_at), 1)
    lines = ["| split | images | dimensions |", "|---|---|---|"]
    for name, split in archive.splits.items():
        lines.append(f"| {name} | {len(split)} | {next(read_embeddings(folder, name)).shape[1]} |")
    return ray_device_metadata(devices) | {
        "n": archive.n,
        "images_per_s": rate,
        "preview": "\n".join(lines),
    }


@pipeline_asset(group="labelling", kinds={"pytorch", "csv"}, gpus="one")
def labeled_dataset(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """A zero-shot label for every image. A prompt's position defines its class; its words do not.

    Settings: `[labelling]`. The embeddings of a class's prompts are averaged. `calibration` turns scores into
    probabilities, and `decision` sets the thresholds. The run stops here if captions would lack a
    class, or be no better than chance. `labels_changed` counts the changes since the previous labels;
    `relabel_diff.csv` lists them.
    """
    from vdm_pipeline.io.tables import write_csv, write_json
    from vdm_pipeline.stages.labelling.labels import check_every_class_predicted

    profile, names = project.profile, project.profile.classes.names
    _warn_about_negations(context, profile.labelling.prompts)
    table, calibration = _label_images(context, project, upstream)
    if profile.subset.captions_from == "auto_label":  # else a check warns
        check_every_class_predicted(table, names)
    write_csv(staging / "labeled_dataset.csv", table)
    write_json(staging / "metrics/calibration.json", calibration.as_dict())
    comparison = _compare_with_previous_labels(context, project, staging, upstream, table)
    counts = {f"n_{name}": int((table["auto_label"] == name).sum()) for name in names}
    preview = table_preview(table.head(5))
    return {"dagster/row_count": len(table)} | comparison | counts | {"preview": preview}


def _warn_about_negations(context: dg.AssetExecutionContext, prompts: tuple[tuple[str, ...], ...]) -> None:
    from vdm_pipeline.stages.labelling.prompts import find_negations

    for prompt, word in find_negations(prompts):
        context.log.warning(
            f"prompt '{prompt}' contains the negation '{word}': CLIP models tend to ignore negations"
        )


def _label_images(
    context: dg.AssetExecutionContext, project: Project, upstream: Upstream
) -> tuple["pd.DataFrame", "Calibration"]:
    """Label the archive from its embeddings and the profile's prompts."""
    from functools import partial

    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.labelling.embeddings import read_embeddings
    from vdm_pipeline.stages.labelling.labels import label_archive
    from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
    from vdm_pipeline.stages.models.clip_conversion import labeller_folder
    from vdm_pipeline.stages.runtime.device import pick_device

    profile, names = project.profile, project.profile.classes.names
    archive = read_archive(upstream["raw_npz"]["archive"], profile.data, names)
    folder = labeller_folder(profile.labelling, context.log.info)
    labeller = ZeroShot(folder, pick_device(profile.execution.device))
    text = labeller.encode_prompts(profile.labelling.prompts)
    embeddings = partial(read_embeddings, upstream["image_embeddings"]["folder"])
    return label_archive(archive, embeddings, text, labeller.scale, profile.labelling, names)


def _compare_with_previous_labels(
    context: dg.AssetExecutionContext,
    project: Project,
    staging: Path,
    upstream: Upstream,
    table: "pd.DataFrame",
) -> dict[str, Any]:
    """Write ``relabel_diff.csv``; return the number of changed labels and the metrics before and after."""
    import pandas as pd

    from vdm_pipeline.io.tables import write_csv
    from vdm_pipeline.stages.labelling.relabel_diff import (
        flipped_labels,
        metrics_before_and_after,
        previous_labels,
    )

    previous = previous_labels(project.paths("labeled_dataset")["table"])
    comparable = _has_comparable_labels(project, upstream)
    diff = staging / "metrics/relabel_diff.csv"
    _reuse_unrecorded_diff(project, staging / "labeled_dataset.csv", diff)
    if not diff.is_file():
        write_csv(diff, flipped_labels(previous if comparable else None, table))
    n_changed = len(pd.read_csv(diff))
    context.log.info(
        f"{n_changed} labels changed since the previous run"
        if comparable
        else "no previous labels of this archive and these classes to compare with"
    )
    return {"labels_changed": n_changed} | metrics_before_and_after(previous, table)


def _has_comparable_labels(project: Project, upstream: Upstream) -> bool:
    """Whether the previous labels are of the same archive and the same classes."""
    manifest = project.store.manifest("labeled_dataset")
    if manifest is None or manifest.inputs.get("raw_npz.labels") != upstream["raw_npz"].versions["labels"]:
        return False
    previous_names = manifest.settings.get("classes", {}).get("names", ())
    return tuple(previous_names) == project.profile.classes.names


def _reuse_unrecorded_diff(project: Project, table: Path, diff: Path) -> None:
    """Copy the diff of a run that published these same labels but was killed before it recorded them."""
    paths, manifest = project.paths("labeled_dataset"), project.store.manifest("labeled_dataset")
    if diff.is_file() or not paths["table"].is_file() or not paths["diff"].is_file() or manifest is None:
        return
    sha256 = file_sha256(table)
    if file_sha256(paths["table"]) == sha256 and sha256 not in manifest.files.values():
        shutil.copyfile(paths["diff"], diff)


@pipeline_asset(group="labelling", kinds={"scikitlearn"})
def label_metrics(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Quality of the labels against the true ones, by split, next to the score of a constant guess.

    Read balanced accuracy and ROC AUC with their intervals, and the calibration error; accuracy alone favours
    a constant guess. This asset is computed even if a check blocks the labels, to show what is wrong.
    """
    import pandas as pd

    from vdm_pipeline.io.tables import write_json
    from vdm_pipeline.stages.evaluation.metrics.labels import label_report, true_labels_for
    from vdm_pipeline.stages.labelling.labels import read_labels
    from vdm_pipeline.stages.report.plots.labels import label_figures

    profile, names = project.profile, project.profile.classes.names
    table = read_labels(upstream["labeled_dataset"]["table"])
    used = true_labels_for(profile.labelling, profile.subset.captions_from)
    report = label_report(table, names, profile.evaluation.bootstrap, profile.evaluation.seed)
    write_json(
        staging / "metrics/auto_label_metrics.json",
        {split: {"true_labels": used[split]} | scores for split, scores in report.items()},
    )
    figures = label_figures(table, names)
    plots = _save_plots(figures, staging / "metrics/label_plots")
    rows = {
        split: {key: value for key, value in scores.items() if not isinstance(value, dict | list)}
        for split, scores in report.items()
    }
    test = {f"test_{key}": round(value, 4) for key, value in rows["test"].items() if isinstance(value, float)}
    scores = table_preview(pd.DataFrame(rows).T.round(3), index=True)
    return {"inline": inline_plots(figures), "preview": f"{plots}\n\n{scores}"} | test


def _save_plots(figures: "Mapping[str, Figure]", folder: Path) -> str:
    """Write the plots as PNG; return them as Markdown."""
    from vdm_pipeline.stages.report.plots.figure import save_figure

    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
    return " ".join(file_preview(folder / f"{name}.png") for name in figures)
