"""`image_embeddings`, `labeled_dataset` and `label_metrics`."""

import shutil
import time
from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset, ray_device_metadata
from vdm_pipeline.defs.previews import table_preview
from vdm_pipeline.defs.progress import ProgressLogger
from vdm_pipeline.incremental.project import Project, Upstream
from vdm_pipeline.io.hashing import file_sha256


@pipeline_asset(group="labels", kinds={"pytorch"}, gpus="one", supports_ray=True)
def image_embeddings(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """What the labeller's image tower makes of every image; new prompts then cost no image pass.

    Settings: `[labelling] model`. This is the expensive half of zero-shot labelling. Labels, duplicates, doubted labels, the choice
    of the subset and one of the two feature spaces of the metrics come from these vectors.
    """
    from vdm_pipeline.stages.labelling.embed import Embedding, embed_images
    from vdm_pipeline.stages.labelling.embeddings import read_embeddings
    from vdm_pipeline.stages.models.clip_conversion import labeller_folder

    profile = project.profile
    asked = Embedding(
        path=upstream["raw_npz"]["archive"],
        data=profile.data,
        class_names=profile.classes.names,
        labeller=labeller_folder(profile.labelling, context.log.info),
        folder=staging / "embeddings",
        execution=profile.execution,
    )
    begun = time.perf_counter()
    archive, devices = embed_images(asked, context.log.info, ProgressLogger(context, "embedding"))
    rate = round(archive.n / (time.perf_counter() - begun), 1)
    shapes = {name: next(read_embeddings(staging / "embeddings", name)).shape[1] for name in archive.splits}
    lines = [f"| {name} | {len(split)} | {shapes[name]} |" for name, split in archive.splits.items()]
    preview = "\n".join(["| split | images | numbers each |", "|---|---|---|", *lines])
    return ray_device_metadata(devices) | {"n": archive.n, "images_per_s": rate, "preview": preview}


@pipeline_asset(group="labels", kinds={"pytorch", "csv"}, gpus="one")
def labeled_dataset(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """A zero-shot label for every image; the class is that of the prompt's position, never of its words.

    Settings: `[labelling]`. Each class has several prompts, whose embeddings are averaged; `calibration` and `decision` say how
    scores become probabilities and where to cut. Labels that are all alike, or no better than guesses, stop the run here.
    `labels_changed` counts what differs from the last labels; `relabel_diff.csv` lists it.
    """
    from functools import partial

    import pandas as pd

    from vdm_pipeline.io.tables import write_csv, write_json
    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.labelling.embeddings import read_embeddings
    from vdm_pipeline.stages.labelling.labels import label_archive, refuse_degenerate
    from vdm_pipeline.stages.labelling.prompts import negations
    from vdm_pipeline.stages.labelling.relabel_diff import before_and_after, flipped, last_labels
    from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
    from vdm_pipeline.stages.models.clip_conversion import labeller_folder
    from vdm_pipeline.stages.runtime.device import pick_device

    profile, names = project.profile, project.profile.classes.names
    for prompt, word in negations(profile.labelling.prompts):
        context.log.warning(
            f"Prompt '{prompt}' says '{word}': models of this kind read past a negation and see what it denies."
        )
    archive = read_archive(upstream["raw_npz"]["archive"], profile.data, names)
    labeller = ZeroShot(
        labeller_folder(profile.labelling, context.log.info), pick_device(profile.execution.device)
    )
    text = labeller.encode_prompts(profile.labelling.prompts)
    embeddings = partial(read_embeddings, upstream["image_embeddings"]["folder"])
    table, calibration = label_archive(archive, embeddings, text, labeller.scale, profile.labelling, names)
    refuse_degenerate(table, names, as_captions=profile.subset.captions_from == "auto_label")
    write_csv(staging / "labeled_dataset.csv", table)
    write_json(staging / "metrics/calibration.json", calibration.as_dict())
    old = last_labels(project.paths("labeled_dataset")["table"])
    record = project.store.manifest("labeled_dataset")
    comparable = record is not None and record.inputs.get("raw_npz") == upstream["raw_npz"].data_version
    comparable = (
        comparable
        and record is not None
        and tuple(record.settings.get("classes", {}).get("names", ())) == names
    )
    diff = staging / "metrics/relabel_diff.csv"
    _take_over_diff(project, staging / "labeled_dataset.csv", diff)
    if not diff.is_file():
        write_csv(diff, flipped(old if comparable else None, table))
    changed = pd.read_csv(diff)
    same = "no earlier labels of this archive and these classes to compare with, image by image"
    context.log.info(f"{len(changed)} labels changed since the last time" if comparable else same)
    counts = {f"n_{name}": int((table["auto_label"] == name).sum()) for name in names}
    facts = {
        "dagster/row_count": len(table),
        "labels_changed": len(changed),
        **counts,
        **before_and_after(old, table),
    }
    return facts | {"preview": table_preview(table.head(5))}


def _take_over_diff(project: Project, table: Path, diff: Path) -> None:
    """What these labels changed, as a run told that was killed after it had put them in the place of the recorded ones."""
    paths, record = project.paths("labeled_dataset"), project.store.manifest("labeled_dataset")
    if diff.is_file() or not paths["table"].is_file() or not paths["diff"].is_file() or record is None:
        return
    new = file_sha256(table)
    if file_sha256(paths["table"]) == new and new not in record.files.values():
        shutil.copyfile(paths["diff"], diff)


@pipeline_asset(group="labels", kinds={"scikitlearn"})
def label_metrics(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """How good the labels are against the true ones, by split, beside what a constant answer would score.

    Look at balanced accuracy and ROC AUC with their intervals, and at the calibration error; accuracy alone praises a constant
    answer. Made even when a check stopped the labels, as it shows what is wrong with them.
    """
    import pandas as pd

    from vdm_pipeline.io.images import file_uri
    from vdm_pipeline.io.tables import write_json
    from vdm_pipeline.stages.evaluation.metrics.labels import label_report, true_labels_for
    from vdm_pipeline.stages.labelling.labels import read_labels
    from vdm_pipeline.stages.report.plots.figure import save_figure
    from vdm_pipeline.stages.report.plots.labels import label_figures

    profile, names = project.profile, project.profile.classes.names
    table = read_labels(upstream["labeled_dataset"]["table"])
    used = true_labels_for(profile.labelling, profile.subset.captions_from)
    report = label_report(table, names, profile.evaluation.bootstrap, profile.evaluation.seed)
    write_json(
        staging / "metrics/auto_label_metrics.json",
        {split: {"true_labels": used[split]} | s for split, s in report.items()},
    )
    pictures = []
    for name, figure in label_figures(table, names).items():
        save_figure(figure, staging / f"metrics/label_plots/{name}.png")
        pictures.append(f"![{name}]({file_uri(staging / f'metrics/label_plots/{name}.png')})")
    rows = {
        split: {k: v for k, v in values.items() if not isinstance(v, dict | list)}
        for split, values in report.items()
    }
    test = {f"test_{key}": round(value, 4) for key, value in rows["test"].items() if isinstance(value, float)}
    return {
        "preview": "\n\n".join([" ".join(pictures), table_preview(pd.DataFrame(rows).T.round(3), index=True)])
    } | test
