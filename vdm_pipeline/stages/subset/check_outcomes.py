"""Outcomes of the subset checks: pure functions over plain values."""

from collections.abc import Sequence

from vdm_pipeline.stages.check_outcome import CheckOutcome


def disjoint(subset: Sequence[bytes], held_out: Sequence[bytes]) -> CheckOutcome:
    """No image is in the subset twice, or also in val or test. Images are digests of their pixels."""
    leaked = len(set(subset) & set(held_out))
    repeated = len(subset) - len(set(subset))
    sentence = f"{leaked} subset images are also in val or test, {repeated} are repeated"
    return CheckOutcome(not leaked and not repeated, sentence, {"leaked": leaked, "repeated": repeated})


def pure(labels: Sequence[str], truth: Sequence[str], min_purity: float) -> CheckOutcome:
    """Enough labels, which become captions, equal the true labels."""
    correct = sum(label == true for label, true in zip(labels, truth, strict=True))
    share = correct / max(len(labels), 1)
    sentence = f"{share:.1%} of the captions have the true label; checks.min_purity is {min_purity:.0%}"
    return CheckOutcome(share >= min_purity, sentence, {"purity": share})


def balanced(labels: Sequence[str], class_names: Sequence[str]) -> CheckOutcome:
    """The subset has equally many images of each class."""
    counts = {name: sum(label == name for label in labels) for name in class_names}
    is_balanced = len(set(counts.values())) == 1 and all(counts.values())
    return CheckOutcome(is_balanced, ", ".join(f"{count} {name}" for name, count in counts.items()), counts)
