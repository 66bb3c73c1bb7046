"""What the figures say, in plain sentences; also when it did not work."""

from typing import Any


def verdict(labels: dict[str, Any], images: dict[str, Any], class_names: tuple[str, ...]) -> list[tuple[bool, str]]:
    """Pairs of (good news, sentence) from the two metric files."""
    return [_labels(labels), _distance(images), *(_agreement(images, name) for name in class_names)]


def interval(metric: dict[str, Any] | None, digits: int = 3) -> str:
    """``value [low, high]``, or ``not measured``."""
    if not metric or metric.get("value") is None:
        return "not measured"
    low, high = metric["ci95"]
    return f"{metric['value']:.{digits}g} [{low:.{digits}g}, {high:.{digits}g}]"


def _labels(labels: dict[str, Any]) -> tuple[bool, str]:
    test = labels["test"]
    balanced, majority, accuracy = test["balanced_accuracy"], test["majority_baseline_accuracy"], test["accuracy"]
    low = (test.get("roc_auc_ci95") or [None])[0]
    ranks = low is not None and low > 0.5
    good = accuracy > majority and balanced > 0.5
    auc = "" if test["roc_auc"] is None else f", ROC AUC {test['roc_auc']:.3f}"
    says = "beat" if good else "do not clearly beat"
    more = " They rank images better than chance." if ranks and not good else ""
    return good, (
        f"Labels {says} a constant answer on test: "
        f"accuracy {accuracy:.3f} against {majority:.3f}, balanced accuracy {balanced:.3f}{auc}.{more}"
    )


def _distance(images: dict[str, Any]) -> tuple[bool, str]:
    arms = {arm: images[arm]["overall"]["kid"] for arm in ("baseline", "lora", "real")}
    closer = arms["lora"]["ci95"][1] < arms["baseline"]["ci95"][0]
    tied = not closer and arms["lora"]["ci95"][0] <= arms["baseline"]["ci95"][1]
    says = (
        "closer to real images than"
        if closer
        else "not clearly nearer to or farther from real images than"
        if tied
        else "farther from real images than"
    )
    return closer, (
        f"With the LoRA, images are {says} without it: KID {interval(arms['lora'])} against {interval(arms['baseline'])}; "
        f"real against real {interval(arms['real'])}."
    )


def _agreement(images: dict[str, Any], name: str) -> tuple[bool, str]:
    lora, baseline, real = (images[arm][name]["label_agreement"] for arm in ("lora", "baseline", "real"))
    good = lora["value"] >= 0.5 and lora["value"] >= baseline["value"]
    return good, (
        f"Asked for {name}, the judge agrees on {lora['value']:.0%} of the images with the LoRA and {baseline['value']:.0%} without it "
        f"(real {name} images: {real['value']:.0%})."
    )
