"""`report`: the page."""

from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.assets.catalogue import STAGES
from vdm_pipeline.assets.materialize import materialize
from vdm_pipeline.resources import Run, Stored


@dg.asset(group_name="evaluation", kinds={"html"}, ins={name: dg.AssetIn(name) for name in STAGES["report"].inputs})
def report(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run], **made: Stored) -> dg.MaterializeResult:
    """One self-contained page that says whether it worked."""

    def work(staging: Path) -> dict[str, Any]:
        from pandas import read_csv

        from vdm_pipeline.stages.archive import read_archive
        from vdm_pipeline.stages.report.contact_sheet import contact_sheet
        from vdm_pipeline.stages.report.page import SUSPECTS, ReportInputs, render_report

        profile = run.profile
        archive = read_archive(made["raw_npz"]["archive"], profile.data, profile.classes.names)
        val = archive.splits["val"]
        real = {name: val.images[val.labels == index][:8] for index, name in enumerate(profile.classes.names)}
        inputs = ReportInputs(
            profile=profile,
            summary=made["pipeline_summary"]["summary"],
            label_metrics=made["label_metrics"]["metrics"],
            image_metrics=made["image_metrics"]["metrics"],
            label_plots=made["label_metrics"]["plots"],
            faults=made["data_faults"]["counts"],
            suspects=made["label_noise"]["table"],
            subset=made["lora_subset"]["folder"],
            lora=made["lora_weights"]["folder"],
            generated=made["generated_images"]["folder"],
            baseline=made["baseline_images"]["folder"],
            real=real,
            doubted=archive.pictures("train", read_csv(made["label_noise"]["table"])["image_id"].head(SUSPECTS)),
        )
        render_report(staging / "report/index.html", inputs)
        contact_sheet(real, made["baseline_images"]["folder"], made["generated_images"]["folder"], staging / "report/contact_sheet.png")
        return {"page": str(run.paths("report")["folder"] / "index.html")}

    return materialize(context, run, work)
