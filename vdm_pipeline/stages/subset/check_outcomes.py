"""Checks of the training subset: pure functions over plain values."""

from collections.abc import Sequence

from vdm_pipeline.stages.check_outcome import CheckOutcome


def disjoint(subset: Sequence[bytes], held_out: Sequence[bytes]) -> CheckOutcome:
    """No image of the subset stands twice, or in val or test; images are given by the digests of their pixels."""
    leaked, repeated = len(set(subset) & set(held_out)), len(subset) - len(set(subset))
    sentence = f"{leaked} subset images also stand in val or test, {repeated} stand twice"
    return CheckOutcome(not leaked and not repeated, sentence, {"leaked": leaked, "repeated": repeated})


def pure(labels: Sequence[str], truth: Sequence[str], min_purity: float) -> CheckOutcome:
    """Captions say what the images show."""
    share = sum(label == true for label, true in zip(labels, truth, strict=True)) / max(len(labels), 1)
    sentence = (
        f"{share:.1%} of the captions are those of the true label; checks.min_purity is {min_purity:.0%}"
    )
    return CheckOutcome(share >= min_purity, sentence, {"purity": share})


def balanced(labels: Sequence[str], class_names: Sequence[str]) -> CheckOutcome:
    """The subset holds as many images of each class."""
    counts = {name: sum(label == name for label in labels) for name in class_names}
    even = len(set(counts.values())) == 1 and all(counts.values())
    return CheckOutcome(even, ", ".join(f"{count} {name}" for name, count in counts.items()), counts)
