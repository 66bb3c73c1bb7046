"""What the figures say, in plain sentences; also when it did not work, and when it was not measured."""

from collections.abc import Mapping
from typing import Any

NOT_MEASURED = "not measured"


def verdict(labels: dict[str, Any], images: dict[str, Any], class_names: tuple[str, ...]) -> list[tuple[bool | None, str]]:
    """Pairs of (good news, sentence) from the two metric files; None where a figure is absent."""
    return [_labels(labels, len(class_names)), _distance(images), *(_agreement(images, name) for name in class_names)]


def interval(metric: Mapping[str, Any] | None) -> str:
    """``value [low, high]``, the value alone if it has no interval, or ``not measured``."""
    if not metric or metric.get("value") is None:
        return NOT_MEASURED
    value = short(metric["value"])
    return value + (" [{}, {}]".format(*map(short, metric["ci95"])) if metric.get("ci95") else "")


def short(value: float) -> str:
    """Three significant digits, and all digits before the point: 0.5, 12.3, 1234."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def find(tree: Any, *keys: str) -> Any:
    """What stands at the end of nested keys; None as soon as one is absent."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _labels(labels: dict[str, Any], n_classes: int) -> tuple[bool | None, str]:
    test = labels.get("test") or {}
    balanced, majority, accuracy = (test.get(key) for key in ("balanced_accuracy", "majority_baseline_accuracy", "accuracy"))
    if balanced is None or majority is None or accuracy is None:
        return None, f"Whether the labels beat a constant answer: {NOT_MEASURED}."
    ci95, auc = test.get("roc_auc_ci95"), test.get("roc_auc")
    good = accuracy > majority and balanced > 1 / n_classes
    bounds = f" [{ci95[0]:.3f}, {ci95[1]:.3f}]" if ci95 else ""
    ranking = "" if auc is None else f", ROC AUC {auc:.3f}{bounds}"
    says = "beat" if good else "do not clearly beat"
    more = " They rank images better than chance." if ci95 and ci95[0] > 0.5 and not good else ""
    return good, (
        f"Labels {says} a constant answer on test: "
        f"accuracy {accuracy:.3f} against {majority:.3f}, balanced accuracy {balanced:.3f}{ranking}.{more}"
    )


def _distance(images: dict[str, Any]) -> tuple[bool | None, str]:
    lora, baseline = (find(images, arm, "overall", "kid") for arm in ("lora", "baseline"))
    if not find(lora, "ci95") or not find(baseline, "ci95"):
        return None, f"Whether the LoRA brings images closer to real ones: {NOT_MEASURED}."
    closer = lora["ci95"][1] < baseline["ci95"][0]
    farther = lora["ci95"][0] > baseline["ci95"][1]
    says = "not clearly nearer to or farther from real images than"
    if closer or farther:
        says = f"{'closer to' if closer else 'farther from'} real images than"
    return closer, (
        f"With the LoRA, images are {says} without it: KID {interval(lora)} against {interval(baseline)}; "
        f"real against real {interval(find(images, 'real', 'overall', 'kid'))}."
    )


def _agreement(images: dict[str, Any], name: str) -> tuple[bool | None, str]:
    arms = {arm: find(images, arm, name, "label_agreement") for arm in ("lora", "baseline", "real")}
    lora, baseline = find(arms["lora"], "value"), find(arms["baseline"], "value")
    if lora is None or baseline is None:
        return None, f"Whether images asked to be {name} look so to the judge: {NOT_MEASURED}."
    worse = _bound(arms["lora"], 1) < _bound(arms["baseline"], 0)
    good = lora >= 0.5 and not worse
    failure = "" if good else (" That is worse than without it." if worse else " Most do not show what was asked.")
    return good, (
        f"Asked for {name}, the judge agrees on {_share(arms['lora'])} of the images with the LoRA and "
        f"{_share(arms['baseline'])} without it (real {name} images: {_share(arms['real'])}).{failure}"
    )


def _bound(metric: Mapping[str, Any], which: int) -> float:
    """End of the interval, or the value where it has none."""
    return (metric.get("ci95") or (metric["value"],) * 2)[which]


def _share(metric: Mapping[str, Any] | None) -> str:
    if not metric or metric.get("value") is None:
        return NOT_MEASURED
    ci95 = metric.get("ci95")
    return f"{metric['value']:.0%}" + (f" [{ci95[0]:.0%}, {ci95[1]:.0%}]" if ci95 else "")
