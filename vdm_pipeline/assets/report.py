"""`report`: the page."""

from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.assets.materialize import materialize
from vdm_pipeline.resources import Run, Stored


@dg.asset(group_name="evaluation", kinds={"html"})
def report(
    context: dg.AssetExecutionContext,
    run: dg.ResourceParam[Run],
    raw_npz: Stored,
    image_embeddings: Stored,
    labeled_dataset: Stored,
    label_metrics: Stored,
    data_faults: Stored,
    label_noise: Stored,
    lora_subset: Stored,
    lora_weights: Stored,
    generated_images: Stored,
    baseline_images: Stored,
    image_metrics: Stored,
    pipeline_summary: Stored,
) -> dg.MaterializeResult:
    """One self-contained page that says whether it worked."""

    def work(staging: Path) -> dict[str, Any]:
        from vdm_pipeline.stages.archive import read_archive
        from vdm_pipeline.stages.report.contact_sheet import contact_sheet
        from vdm_pipeline.stages.report.page import ReportInputs, render_report

        profile = run.profile
        val = read_archive(raw_npz["archive"], profile.data, profile.classes.names).splits["val"]
        real = {name: val.images[val.labels == index][:8] for index, name in enumerate(profile.classes.names)}
        inputs = ReportInputs(
            profile=profile,
            summary=pipeline_summary["summary"],
            label_metrics=label_metrics["metrics"],
            image_metrics=image_metrics["metrics"],
            labels=labeled_dataset["table"],
            subset=lora_subset["folder"],
            lora=lora_weights["folder"],
            generated=generated_images["folder"],
            baseline=baseline_images["folder"],
            real=real,
        )
        render_report(staging / "report/index.html", inputs)
        contact_sheet(real, baseline_images["folder"], generated_images["folder"], staging / "report/contact_sheet.png")
        return {"page": str(run.paths("report")["folder"] / "index.html")}

    return materialize(context, run, work)
