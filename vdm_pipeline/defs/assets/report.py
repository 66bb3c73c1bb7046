"""`report`: the HTML page."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset
from vdm_pipeline.defs.previews import file_preview, table_preview
from vdm_pipeline.graph import REPORTED_ASSETS
from vdm_pipeline.incremental.project import Project, Upstream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vdm_pipeline.stages.data.archive import Archive
    from vdm_pipeline.stages.report.page import ReportInputs


@pipeline_asset(group="report", kinds={"html"})
def report(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """The result on one self-contained page: open `results/report/index.html`.

    It shows verdicts, images side by side, metrics with their intervals, copies, suspect labels, lineage,
    cost, licences and limits.
    """
    from pandas import DataFrame

    from vdm_pipeline.stages.report.contact_sheet import contact_sheet
    from vdm_pipeline.stages.report.page import render_report

    inputs = report_inputs(project, upstream)
    page, sheet = staging / "report/index.html", staging / "report/contact_sheet.png"
    cards = render_report(page, inputs)
    contact_sheet(inputs.real_images, inputs.baseline, inputs.generated, sheet)
    return {
        "page": str(project.paths("report")["folder"] / "index.html"),
        "megabytes": round(page.stat().st_size / 1e6, 2),
        **{f"cards_{outcome}": count for outcome, count in Counter(card.outcome for card in cards).items()},
        "inline": {
            "at_a_glance": table_preview(
                DataFrame(
                    {"topic": [card.topic.title for card in cards], "verdict": [card.tag for card in cards]}
                )
            )
        },
        "preview": file_preview(sheet, "real, baseline and with LoRA"),
    }


def report_inputs(project: Project, upstream: Upstream) -> "ReportInputs":
    """Files, manifests and real images that the page needs."""
    from pandas import read_csv

    from vdm_pipeline.io.tables import read_json
    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.report.closest_pairs import held_out_ids
    from vdm_pipeline.stages.report.page import ReportInputs
    from vdm_pipeline.stages.report.pictures import MAX_SUSPECTS

    profile, names = project.profile, project.profile.classes.names
    archive = read_archive(upstream["raw_npz"]["archive"], profile.data, names)
    suspects = upstream["label_noise"]["table"]
    suspect_ids = read_csv(suspects)["image_id"].head(MAX_SUSPECTS)
    closest_ids = held_out_ids(read_json(upstream["image_metrics"]["metrics"]))
    manifests = {name: project.store.manifest(name) for name in (*REPORTED_ASSETS, "pipeline_summary")}
    return ReportInputs(
        profile=profile,
        manifests={name: manifest for name, manifest in manifests.items() if manifest},
        summary=upstream["pipeline_summary"]["summary"],
        label_metrics=upstream["label_metrics"]["metrics"],
        image_metrics=upstream["image_metrics"]["metrics"],
        label_plots=upstream["label_metrics"]["plots"],
        image_plots=upstream["image_metrics"]["plots"],
        faults=upstream["data_faults"]["counts"],
        suspects=suspects,
        subset=upstream["lora_subset"]["folder"],
        lora=upstream["lora_weights"]["folder"],
        generated=upstream["generated_images"]["folder"],
        baseline=upstream["baseline_images"]["folder"],
        extra=upstream["extra_images"]["folder"],
        real_images=_first_held_out_images(archive, names),
        suspect_images=archive.images_by_id("train", suspect_ids),
        held_out_images=dict(zip(closest_ids, archive.images_by_id("val", closest_ids), strict=True)),
    )


def _first_held_out_images(archive: "Archive", names: tuple[str, ...]) -> "dict[str, NDArray[np.uint8]]":
    """The first val images of each class."""
    from vdm_pipeline.stages.report.gallery import COLUMNS

    val = archive.splits["val"]
    rows = {name: (val.labels == label).nonzero()[0][:COLUMNS] for label, name in enumerate(names)}
    return {name: val.take(indices.tolist()) for name, indices in rows.items()}
