"""`labeled_dataset` and `label_metrics`."""

from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.assets.materialize import Ticker, materialize
from vdm_pipeline.resources import Run, Stored


@dg.asset(group_name="labels", kinds={"pytorch", "csv"}, pool="gpu")
def labeled_dataset(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run], raw_npz: Stored) -> dg.MaterializeResult:
    """A zero-shot label for every image; the class is that of the winning prompt's position, never of its words."""

    def work(staging: Path) -> dict[str, Any]:
        from vdm_pipeline.io.tables import write_csv
        from vdm_pipeline.stages.archive import read_archive
        from vdm_pipeline.stages.device import pick_device
        from vdm_pipeline.stages.labels import label_table, refuse_degenerate
        from vdm_pipeline.stages.models import resolve_model
        from vdm_pipeline.stages.zero_shot import ZeroShot

        profile = run.profile
        archive = read_archive(raw_npz["archive"], profile.data, profile.classes.names)
        labelling, execution = profile.labelling, profile.execution
        labeller = ZeroShot(resolve_model(labelling.model), labelling.prompts, pick_device(execution.device))
        probabilities = {}
        for split, part in archive.splits.items():
            embeddings = labeller.embed(part.images, execution.label_batch, Ticker(context, f"labelling {split}"))
            probabilities[split] = labeller.probabilities(embeddings)
        table = label_table(archive, probabilities, profile.classes.names)
        refuse_degenerate(table, profile.classes.names, as_captions=profile.subset.captions_from == "auto_label")
        write_csv(staging / "labeled_dataset.csv", table)
        counts = table["auto_label"].value_counts()
        return {"dagster/row_count": len(table), "preview": table.head(5).to_markdown(index=False)} | {
            f"n_{name}": int(counts.get(name, 0)) for name in profile.classes.names
        }

    return materialize(context, run, work)


@dg.asset(group_name="labels", kinds={"scikitlearn"})
def label_metrics(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run], labeled_dataset: Stored) -> dg.MaterializeResult:
    """How good the labels are against the true ones, by split, beside what a constant answer would score."""

    def work(staging: Path) -> dict[str, Any]:
        import pandas as pd

        from vdm_pipeline.io.tables import write_json
        from vdm_pipeline.stages.labels import read_labels
        from vdm_pipeline.stages.metrics.labels import label_report

        evaluation = run.profile.evaluation
        table = read_labels(labeled_dataset["table"])
        report = label_report(table, run.profile.classes.names, evaluation.bootstrap, evaluation.seed)
        write_json(staging / "metrics/auto_label_metrics.json", report)
        rows = {split: {k: v for k, v in values.items() if not isinstance(v, dict | list)} for split, values in report.items()}
        test = {f"test_{key}": round(value, 4) for key, value in rows["test"].items() if isinstance(value, float)}
        return {"preview": pd.DataFrame(rows).T.round(3).to_markdown()} | test

    return materialize(context, run, work)
