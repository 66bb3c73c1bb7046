"""Every check in one table: what it looks at, which settings can change what it finds, and whether it stops what comes after."""

from collections.abc import Callable
from dataclasses import dataclass

from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.models import pinned_digest


@dataclass(frozen=True)
class Gate:
    """One check of an asset, without Dagster; ``reads`` are further assets that it looks at.

    A blocking one stops what would be made from the asset until it has looked at it as it stands, and found nothing.
    """

    asset: str
    name: str
    asked: Callable[[Profile], list]
    blocking: bool = False
    reads: tuple[str, ...] = ()
    version: int = 1


ARMS = ("generated_images", "baseline_images", "extra_images")
PAIR = ("generated_images", "baseline_images")
ARCHIVE = ("raw_npz",)


def _named(profile: Profile) -> list:
    return [list(profile.classes.names)]


def _as_captions(profile: Profile) -> list:
    """What is read of the labels, and whether they are to be captions."""
    return [*_named(profile), profile.subset.captions_from, profile.evaluation.bootstrap]


def _of_an_arm(asset: str) -> tuple[Gate, ...]:
    return (
        Gate(asset, "images_are_complete", lambda p: [p.classes, p.generation.per_class, p.generation.seed], blocking=True),
        Gate(asset, "images_are_not_blank", lambda p: [p.faults], blocking=True),
        Gate(asset, "images_are_different", lambda p: [], blocking=True),
        Gate(asset, "images_are_grey", lambda p: [p.checks.max_chroma]),
    )


GATES = {
    (gate.asset, gate.name): gate
    for gate in (
        Gate("labeled_dataset", "labels_are_sound", lambda p: [*_named(p), p.data], blocking=True, reads=ARCHIVE),
        Gate("labeled_dataset", "labels_predict_every_class", lambda p: [*_as_captions(p), p.checks.max_class_share], blocking=True),
        Gate("labeled_dataset", "labels_beat_chance", _as_captions, blocking=True),
        Gate("labeled_dataset", "labels_are_calibrated", lambda p: [*_as_captions(p), p.checks.max_ece]),
        Gate("lora_subset", "subset_is_balanced", _named, blocking=True),
        Gate("lora_subset", "subset_is_disjoint", lambda p: [*_named(p), p.data], blocking=True, reads=ARCHIVE),
        Gate("lora_subset", "subset_is_pure", lambda p: [p.checks.min_purity], blocking=True),
        *(gate for asset in ARMS for gate in _of_an_arm(asset)),
        Gate(
            "generated_images",
            "prompts_are_captions",
            lambda p: [p.training.base, pinned_digest(p.training.base)],
            reads=("lora_subset",),
        ),
        Gate("image_metrics", "arms_share_one_plan", lambda p: [], reads=PAIR),
        Gate("image_metrics", "adapter_is_active", lambda p: [p.checks.min_adapter_change], reads=PAIR),
        Gate("image_metrics", "lora_beats_baseline", lambda p: []),
        Gate("image_metrics", "images_are_no_copies", lambda p: [p.checks.max_copied]),
    )
}


def gates_of(asset: str) -> list[Gate]:
    """The checks of an asset, in the order in which they look."""
    return [gate for gate in GATES.values() if gate.asset == asset]
