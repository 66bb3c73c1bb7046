"""Asset checks: each a pure function over plain values, with a thin Dagster face."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.resources import Run, Stored

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Finding:
    """What a check found: whether it passed, one sentence, and figures."""

    passed: bool
    sentence: str
    figures: dict[str, Any] = field(default_factory=dict)

    def result(self, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR) -> dg.AssetCheckResult:
        """For Dagster; a blocking check of severity WARN stops nothing."""
        return dg.AssetCheckResult(passed=self.passed, description=self.sentence, metadata=self.figures, severity=severity)


def every_class_predicted(labels: Sequence[str], class_names: Sequence[str]) -> Finding:
    """A labeller that says the same of every image labels nothing."""
    counts = {name: sum(label == name for label in labels) for name in class_names}
    never = [name for name, count in counts.items() if not count]
    sentence = f"never predicted: {', '.join(never)}" if never else "every class is predicted"
    return Finding(not never, sentence, {f"n_{name}": count for name, count in counts.items()})


def sound_table(table: "pd.DataFrame", expected_rows: int) -> Finding:
    """Ids unique and complete, confidence finite and in [0, 1]."""
    repeated = int(table["image_id"].duplicated().sum())
    outside = int((~table["confidence_score"].between(0, 1)).sum())
    faults = [f"{repeated} repeated ids"] * bool(repeated) + [f"{outside} confidences outside [0, 1]"] * bool(outside)
    if len(table) != expected_rows:
        faults.append(f"{len(table)} rows for {expected_rows} images")
    return Finding(not faults, "; ".join(faults) or "ids and confidences are sound", {"rows": len(table)})


def balanced(labels: Sequence[str], class_names: Sequence[str]) -> Finding:
    """The subset holds as many images of each class."""
    counts = {name: sum(label == name for label in labels) for name in class_names}
    even = len(set(counts.values())) == 1 and all(counts.values())
    return Finding(even, ", ".join(f"{count} {name}" for name, count in counts.items()), counts)


def same_plan(generated: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]]) -> Finding:
    """Both arms have the same images in label, prompt, seed, steps and guidance; only the adapters differ."""
    keys = ("file_name", "label", "prompt", "seed", "steps", "guidance_scale", "base_model")
    plans = [[tuple(row[key] for key in keys) for row in rows] for rows in (generated, baseline)]
    pairs = zip(generated, baseline, strict=False)
    ours = all("lora" in a["adapters"] and {k: v for k, v in a["adapters"].items() if k != "lora"} == b["adapters"] for a, b in pairs)
    fair = bool(generated) and plans[0] == plans[1] and ours
    sentence = "the arms differ in our adapter alone" if fair else "the arms are not the same plan with and without our adapter"
    return Finding(fair, sentence, {"n": len(generated)})


def not_blank(deviations: Sequence[float], minimum: float = 4.0) -> Finding:
    """No image is blank: the deviation of its grey levels is at least ``minimum``."""
    blank = sum(not value >= minimum for value in deviations)
    return Finding(not blank, f"{blank} of {len(deviations)} images are blank or flat", {"blank": blank})


@dg.asset_check(asset="labeled_dataset", blocking=True)
def labels_predict_every_class(run: dg.ResourceParam[Run], labeled_dataset: Stored) -> dg.AssetCheckResult:
    """Stops the run when a class is never predicted; where true labels are the captions, it warns."""
    finding = every_class_predicted(_table(labeled_dataset)["auto_label"].tolist(), run.profile.classes.names)
    captions = run.profile.subset.captions_from == "auto_label"
    return finding.result(dg.AssetCheckSeverity.ERROR if captions else dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset="labeled_dataset", blocking=True)
def labels_are_sound(run: dg.ResourceParam[Run], labeled_dataset: Stored) -> dg.AssetCheckResult:
    """Stops the run on a damaged table."""
    archive = run.store.manifest("raw_npz")
    return sound_table(_table(labeled_dataset), archive.metadata["n"] if archive else 0).result()


@dg.asset_check(asset="lora_subset", blocking=True)
def subset_is_balanced(run: dg.ResourceParam[Run], lora_subset: Stored) -> dg.AssetCheckResult:
    """Stops the run before a lopsided training."""
    return balanced([row["label"] for row in _rows(lora_subset)], run.profile.classes.names).result()


@dg.asset_check(
    asset="image_metrics",
    additional_ins={"generated_images": dg.AssetIn("generated_images"), "baseline_images": dg.AssetIn("baseline_images")},
)
def arms_share_one_plan(generated_images: Stored, baseline_images: Stored) -> dg.AssetCheckResult:
    """The comparison is fair by construction; here it is proven on what was written."""
    return same_plan(_rows(generated_images), _rows(baseline_images)).result()


@dg.asset_check(asset="generated_images", blocking=True)
def images_are_not_blank(generated_images: Stored) -> dg.AssetCheckResult:
    """Stops the run before blank images are scored."""
    from vdm_pipeline.io.images import read_folder

    images = read_folder(generated_images["folder"], _rows(generated_images))
    return not_blank(images.reshape(len(images), -1).std(axis=1).tolist()).result()


def _table(handle: Stored) -> "pd.DataFrame":
    from vdm_pipeline.stages.labels import read_labels

    return read_labels(handle["table"])


def _rows(handle: Stored) -> list[dict[str, Any]]:
    from vdm_pipeline.io.tables import read_rows

    return read_rows(handle["folder"] / "metadata.jsonl")


CHECKS = [labels_predict_every_class, labels_are_sound, subset_is_balanced, arms_share_one_plan, images_are_not_blank]
