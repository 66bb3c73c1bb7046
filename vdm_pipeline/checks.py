"""Asset checks: each a pure function over plain values, with a thin Dagster face."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.resources import Run, Stored

if TYPE_CHECKING:
    import pandas as pd

    from vdm_pipeline.stages.archive import Archive


@dataclass(frozen=True)
class Finding:
    """What a check found: whether it passed, one sentence, and figures."""

    passed: bool
    sentence: str
    figures: dict[str, Any] = field(default_factory=dict)

    def result(self, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR) -> dg.AssetCheckResult:
        """For Dagster; a blocking check of severity WARN stops nothing."""
        return dg.AssetCheckResult(passed=self.passed, description=self.sentence, metadata=self.figures, severity=severity)


def every_class_predicted(labels: Sequence[str], class_names: Sequence[str], max_share: float) -> Finding:
    """A labeller that says the same of every image, or of nearly every one, labels nothing."""
    counts = {name: sum(label == name for label in labels) for name in class_names}
    never = [name for name, count in counts.items() if not count]
    most = max(counts, key=lambda name: counts[name])
    share = counts[most] / max(len(labels), 1)
    if never:
        sentence = f"never predicted: {', '.join(never)}"
    elif share > max_share:
        sentence = f"{most} is given to {share:.1%} of the images, more than checks.max_class_share = {max_share}"
    else:
        sentence = "every class is predicted, and none nearly always"
    return Finding(not never and share <= max_share, sentence, {f"n_{name}": count for name, count in counts.items()})


def sound_table(table: "pd.DataFrame", ids: Sequence[str], truth: Sequence[int], class_names: Sequence[str]) -> Finding:
    """Ids and true labels are the archive's, in its order; labels are classes; confidences and probabilities are finite, in [0, 1]."""
    faults = []
    if len(table) != len(ids):
        faults.append(f"{len(table)} rows for {len(ids)} images")
    elif table["image_id"].tolist() != list(ids):
        faults.append("image_id is not the archive's, in its order")
    elif table["ground_truth"].tolist() != list(truth):
        faults.append("ground_truth is not the archive's")
    repeated = int(table["image_id"].duplicated().sum())
    faults += [f"{repeated} repeated ids"] * bool(repeated)
    unknown = int((~table["auto_label"].isin(class_names)).sum())
    faults += [f"{unknown} labels that are no class"] * bool(unknown)
    for column in ("confidence_score", *(f"p_{name}" for name in class_names)):
        outside = int((~table[column].between(0, 1)).sum())
        faults += [f"{outside} values of {column} outside [0, 1]"] * bool(outside)
    return Finding(not faults, "; ".join(faults) or "ids, labels and probabilities are sound", {"rows": len(table)})


def better_than_chance(scores: Mapping[str, Any], n_classes: int) -> Finding:
    """The whole interval of the balanced accuracy lies above what guessing has."""
    low, high = scores["balanced_accuracy_ci95"]
    good = low > 1 / n_classes
    says = "are better than chance" if good else "are not clearly better than chance"
    figures = {"balanced_accuracy": scores["balanced_accuracy"], "low": low, "high": high}
    return Finding(good, f"labels {says}: balanced accuracy {scores['balanced_accuracy']:.3f} [{low:.3f}, {high:.3f}] on test", figures)


def calibrated(scores: Mapping[str, Any], max_ece: float) -> Finding:
    """Confidence means what it says."""
    ece = scores["ece"]
    return Finding(ece <= max_ece, f"expected calibration error {ece:.3f} on test; checks.max_ece is {max_ece}", {"ece": ece})


def disjoint(subset: Sequence[bytes], held_out: Sequence[bytes]) -> Finding:
    """No image of the subset stands twice, or in val or test; images are given by the digests of their pixels."""
    leaked, repeated = len(set(subset) & set(held_out)), len(subset) - len(set(subset))
    sentence = f"{leaked} subset images also stand in val or test, {repeated} stand twice"
    return Finding(not leaked and not repeated, sentence, {"leaked": leaked, "repeated": repeated})


def pure(labels: Sequence[str], truth: Sequence[str], min_purity: float) -> Finding:
    """Captions say what the images show."""
    share = sum(label == true for label, true in zip(labels, truth, strict=True)) / max(len(labels), 1)
    sentence = f"{share:.1%} of the captions are those of the true label; checks.min_purity is {min_purity:.0%}"
    return Finding(share >= min_purity, sentence, {"purity": share})


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
    """Stops the run when a class is never predicted, or one nearly always."""
    labels = _table(labeled_dataset)["auto_label"].tolist()
    return every_class_predicted(labels, run.profile.classes.names, run.profile.checks.max_class_share).result(_severity(run))


@dg.asset_check(asset="labeled_dataset", blocking=True)
def labels_are_sound(run: dg.ResourceParam[Run], labeled_dataset: Stored) -> dg.AssetCheckResult:
    """Stops the run on a damaged table."""
    archive = _archive(run)
    ids = [name for split in archive.splits for name in archive.image_ids(split)]
    truth = [label for split in archive.splits.values() for label in split.labels.tolist()]
    return sound_table(_table(labeled_dataset), ids, truth, run.profile.classes.names).result()


@dg.asset_check(asset="labeled_dataset", blocking=True)
def labels_beat_chance(run: dg.ResourceParam[Run], labeled_dataset: Stored) -> dg.AssetCheckResult:
    """Stops the run when labels that are to be captions are no better than guesses."""
    return better_than_chance(_test_scores(run, labeled_dataset), len(run.profile.classes.names)).result(_severity(run))


@dg.asset_check(asset="labeled_dataset")
def labels_are_calibrated(run: dg.ResourceParam[Run], labeled_dataset: Stored) -> dg.AssetCheckResult:
    """Warns when the confidence is not to be believed."""
    return calibrated(_test_scores(run, labeled_dataset), run.profile.checks.max_ece).result(dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset="lora_subset", blocking=True)
def subset_is_balanced(run: dg.ResourceParam[Run], lora_subset: Stored) -> dg.AssetCheckResult:
    """Stops the run before a lopsided training."""
    return balanced([row["label"] for row in _rows(lora_subset)], run.profile.classes.names).result()


@dg.asset_check(asset="lora_subset", blocking=True)
def subset_is_disjoint(run: dg.ResourceParam[Run], lora_subset: Stored) -> dg.AssetCheckResult:
    """Stops the run before it trains on an image that it will be measured against."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.data_faults import image_keys

    archive = _archive(run)
    held_out = [key for split in ("val", "test") for key in image_keys(archive.splits[split].images)]
    return disjoint(image_keys(read_folder(lora_subset["folder"], _rows(lora_subset))), held_out).result()


@dg.asset_check(asset="lora_subset", blocking=True)
def subset_is_pure(run: dg.ResourceParam[Run], lora_subset: Stored) -> dg.AssetCheckResult:
    """Stops the run when too many captions are wrong; the true labels measure here and choose nothing."""
    rows = _rows(lora_subset)
    return pure([row["label"] for row in rows], [row["ground_truth"] for row in rows], run.profile.checks.min_purity).result()


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


def _archive(run: Run) -> "Archive":
    from vdm_pipeline.stages.archive import read_archive

    return read_archive(run.paths("raw_npz")["archive"], run.profile.data, run.profile.classes.names)


def _severity(run: Run) -> dg.AssetCheckSeverity:
    """Automatic labels that become captions must be good; else they are only looked at."""
    return dg.AssetCheckSeverity.ERROR if run.profile.subset.captions_from == "auto_label" else dg.AssetCheckSeverity.WARN


def _test_scores(run: Run, handle: Stored) -> dict[str, Any]:
    from vdm_pipeline.stages.metrics.labels import as_used, score

    table, names = _table(handle), run.profile.classes.names
    return score(*as_used(table[table["split"] == "test"], names), names, run.profile.evaluation.bootstrap)


CHECKS = [
    labels_predict_every_class,
    labels_are_sound,
    labels_beat_chance,
    labels_are_calibrated,
    subset_is_balanced,
    subset_is_disjoint,
    subset_is_pure,
    arms_share_one_plan,
    images_are_not_blank,
]
