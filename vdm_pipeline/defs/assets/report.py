"""`report`: the page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset
from vdm_pipeline.graph import REPORTED_ASSETS
from vdm_pipeline.incremental.project import Project, Upstream

if TYPE_CHECKING:
    from vdm_pipeline.stages.report.page import ReportInputs


@pipeline_asset(group="evaluation", kinds={"html"})
def report(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """One self-contained page that says whether it worked: open `results/report/index.html`.

    Pairs of images, metrics with their intervals, copies, doubted labels, lineage, cost and licences, and what the figures do not
    say.
    """
    from vdm_pipeline.io.images import file_uri
    from vdm_pipeline.stages.report.contact_sheet import contact_sheet
    from vdm_pipeline.stages.report.page import render_report

    inputs = report_inputs(project, upstream)
    page = staging / "report/index.html"
    render_report(page, inputs)
    contact_sheet(inputs.real, inputs.baseline, inputs.generated, staging / "report/contact_sheet.png")
    picture = f"![real, baseline and LoRA]({file_uri(staging / 'report/contact_sheet.png')})"
    place = str(project.paths("report")["folder"] / "index.html")
    return {"page": place, "megabytes": round(page.stat().st_size / 1e6, 2), "preview": picture}


def report_inputs(project: Project, upstream: Upstream) -> "ReportInputs":
    """Everything that the page shows: files, records, and the real images that it needs."""
    from pandas import read_csv

    from vdm_pipeline.io.tables import read_json
    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.report.copies import held_out_ids
    from vdm_pipeline.stages.report.gallery import COLUMNS
    from vdm_pipeline.stages.report.page import ReportInputs
    from vdm_pipeline.stages.report.pictures import SUSPECTS

    profile = project.profile
    archive = read_archive(upstream["raw_npz"]["archive"], profile.data, profile.classes.names)
    val = archive.splits["val"]
    first = {
        name: (val.labels == index).nonzero()[0][:COLUMNS] for index, name in enumerate(profile.classes.names)
    }
    near = held_out_ids(read_json(upstream["image_metrics"]["metrics"]))
    return ReportInputs(
        profile=profile,
        manifests={
            name: record
            for name in (*REPORTED_ASSETS, "pipeline_summary")
            if (record := project.store.manifest(name))
        },
        summary=upstream["pipeline_summary"]["summary"],
        label_metrics=upstream["label_metrics"]["metrics"],
        image_metrics=upstream["image_metrics"]["metrics"],
        label_plots=upstream["label_metrics"]["plots"],
        image_plots=upstream["image_metrics"]["plots"],
        faults=upstream["data_faults"]["counts"],
        suspects=upstream["label_noise"]["table"],
        subset=upstream["lora_subset"]["folder"],
        lora=upstream["lora_weights"]["folder"],
        generated=upstream["generated_images"]["folder"],
        baseline=upstream["baseline_images"]["folder"],
        extra=upstream["extra_images"]["folder"],
        real={name: val.take(rows.tolist()) for name, rows in first.items()},
        doubted=archive.pictures(
            "train", read_csv(upstream["label_noise"]["table"])["image_id"].head(SUSPECTS)
        ),
        held_out=dict(zip(near, archive.pictures("val", near), strict=True)),
    )
