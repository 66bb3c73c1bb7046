"""Every stage in one table: what it reads, what it writes, and which settings can change its result."""

from collections.abc import Callable
from dataclasses import dataclass

from vdm_pipeline.settings import Profile, fingerprint


@dataclass(frozen=True)
class Stage:
    """One asset, without Dagster.

    ``outputs`` are paths in the project folder, by role, all under ``data/`` or all under ``results/``. The data version is
    the content of ``identity``: paths, or the start of paths, without what differs between equal runs, such as timings. ``kept``
    are folders with half-done work, beside the staging folder.
    """

    asset: str
    inputs: tuple[str, ...]
    outputs: dict[str, str]
    asked: Callable[[Profile], list]
    identity: tuple[str, ...] = ("data/", "results/")
    version: int = 1
    kept: tuple[str, ...] = ()


def _section(*names: str) -> Callable[[Profile], list]:
    return lambda profile: [getattr(profile, name) for name in names]


def _embedded(profile: Profile) -> list:
    return [profile.labelling.model.id, profile.labelling.model.digest]


def _true_labels(profile: Profile) -> list:
    """What decides what true labels are used for."""
    return [profile.labelling.calibration, profile.labelling.decision, profile.subset.captions_from]


def _trained(profile: Profile) -> list:
    return [profile.training, profile.training.base.digest]


def _drawn(profile: Profile) -> list:
    """What all arms share: the plan and the base; the weight of our adapter and the extra arms are their own."""
    generation = profile.generation.asked(exclude={"adapter_weight", "extra"})
    base = profile.training.base
    return [generation, profile.classes, base, base.digest, profile.generation.lcm_lora.digest, profile.training.resolution]


def _everything(profile: Profile) -> list:
    digests = {role: pin.digest for role, pin in profile.models().items()}
    return [profile.model_dump(mode="json", exclude={"automation", "execution"}), digests]


IGNORES_BLOCKING_CHECKS = ("label_metrics",)
"""Assets that show what is wrong, and so may look at what a check has stopped."""

REPORTED_ASSETS = (
    "raw_npz",
    "image_embeddings",
    "labeled_dataset",
    "label_metrics",
    "data_faults",
    "label_noise",
    "lora_subset",
    "lora_weights",
    "generated_images",
    "baseline_images",
    "extra_images",
    "image_metrics",
)
"""What the summary and the report look back on."""

STAGES = {
    stage.asset: stage
    for stage in (
        Stage("raw_npz", (), {}, lambda p: [p.data, list(p.classes.names)]),
        Stage("image_embeddings", ("raw_npz",), {"folder": "results/embeddings"}, _embedded),
        Stage(
            "labeled_dataset",
            ("raw_npz", "image_embeddings"),
            {
                "table": "results/labeled_dataset.csv",
                "calibration": "results/metrics/calibration.json",
                "diff": "results/metrics/relabel_diff.csv",
            },
            lambda p: [p.labelling, *_embedded(p), list(p.classes.names), p.subset.captions_from],
            ("results/labeled_dataset.csv", "results/metrics/calibration.json"),
            version=2,
        ),
        Stage(
            "label_metrics",
            ("labeled_dataset",),
            {"metrics": "results/metrics/auto_label_metrics.json", "plots": "results/metrics/label_plots"},
            lambda p: [list(p.classes.names), p.evaluation.bootstrap, p.evaluation.seed, *_true_labels(p)],
            ("results/metrics/auto_label_metrics.json",),
            version=2,
        ),
        Stage(
            "data_faults",
            ("raw_npz", "image_embeddings"),
            {"table": "results/metrics/data_faults.csv", "counts": "results/metrics/data_faults.json"},
            lambda p: [p.faults, list(p.classes.names)],
        ),
        Stage(
            "label_noise",
            ("raw_npz", "image_embeddings", "labeled_dataset"),
            {"table": "results/metrics/label_suspects.csv"},
            lambda p: [p.subset.captions_from, p.subset.seed, list(p.classes.names)],
        ),
        Stage(
            "lora_subset",
            ("raw_npz", "image_embeddings", "labeled_dataset", "data_faults", "label_noise"),
            {"folder": "data/subset", "held_out": "data/subset_held_out"},
            _section("subset", "classes"),
            version=3,
        ),
        Stage(
            "lora_weights",
            ("lora_subset",),
            {"folder": "results/lora"},
            _trained,
            ("results/lora/pytorch_lora_weights",),
            version=4,
            kept=("results/.training",),
        ),
        Stage(
            "generated_images",
            ("lora_weights",),
            {"folder": "results/generated_images"},
            lambda p: [*_drawn(p), p.generation.adapter_weight],
            version=5,
        ),
        Stage("baseline_images", (), {"folder": "results/generated_images_no_fine_tuning"}, _drawn, version=5),
        Stage(
            "extra_images",
            ("lora_weights",),
            {"folder": "results/generated_images_extra"},
            lambda p: [*_drawn(p), p.generation.asked(include={"extra"})],
            version=4,
        ),
        Stage(
            "image_metrics",
            ("raw_npz", "data_faults", "lora_subset", "generated_images", "baseline_images", "extra_images"),
            {"metrics": "results/metrics/image_metrics.json", "plots": "results/metrics/image_plots"},
            lambda p: [p.evaluation, p.training.resolution, p.name, *_embedded(p), list(p.classes.names)],
            ("results/metrics/image_metrics.json",),
            version=5,
        ),
        Stage(
            "pipeline_summary",
            REPORTED_ASSETS,
            {"summary": "results/pipeline_summary.json"},
            _everything,
            version=2,
        ),
        Stage(
            "report",
            (*REPORTED_ASSETS, "pipeline_summary"),
            {"folder": "results/report"},
            _everything,
            version=5,
        ),
    )
}


@dataclass(frozen=True)
class CheckSpec:
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


def _of_an_arm(asset: str) -> tuple[CheckSpec, ...]:
    return (
        CheckSpec(asset, "images_are_complete", lambda p: [p.classes, p.generation.per_class, p.generation.seed], blocking=True),
        CheckSpec(asset, "images_are_not_blank", lambda p: [p.faults], blocking=True),
        CheckSpec(asset, "images_are_different", lambda p: [], blocking=True),
        CheckSpec(asset, "images_are_grey", lambda p: [p.checks.max_chroma]),
    )


CHECKS = {
    (gate.asset, gate.name): gate
    for gate in (
        CheckSpec("labeled_dataset", "labels_are_sound", lambda p: [*_named(p), p.data], blocking=True, reads=ARCHIVE),
        CheckSpec("labeled_dataset", "labels_predict_every_class", lambda p: [*_as_captions(p), p.checks.max_class_share], blocking=True),
        CheckSpec("labeled_dataset", "labels_beat_chance", _as_captions, blocking=True),
        CheckSpec("labeled_dataset", "labels_are_calibrated", lambda p: [*_as_captions(p), p.checks.max_ece]),
        CheckSpec("lora_subset", "subset_is_balanced", _named, blocking=True),
        CheckSpec("lora_subset", "subset_is_disjoint", lambda p: [*_named(p), p.data], blocking=True, reads=ARCHIVE),
        CheckSpec("lora_subset", "subset_is_pure", lambda p: [p.checks.min_purity], blocking=True),
        *(gate for asset in ARMS for gate in _of_an_arm(asset)),
        CheckSpec(
            "generated_images",
            "prompts_are_captions",
            lambda p: [p.training.base, p.training.base.digest],
            reads=("lora_subset",),
        ),
        CheckSpec("image_metrics", "arms_share_one_plan", lambda p: [], reads=PAIR),
        CheckSpec("image_metrics", "adapter_is_active", lambda p: [p.checks.min_adapter_change], reads=PAIR),
        CheckSpec("image_metrics", "lora_beats_baseline", lambda p: []),
        CheckSpec("image_metrics", "images_are_no_copies", lambda p: [p.checks.max_copied]),
    )
}


def checks_of(asset: str) -> list[CheckSpec]:
    """The checks of an asset, in the order in which they look."""
    return [gate for gate in CHECKS.values() if gate.asset == asset]


def outputs(asset: str, profile: Profile) -> dict[str, str]:
    """Paths that the asset writes, by role; the archive's name depends on the profile."""
    return {"archive": f"data/{profile.data.file_name}"} if asset == "raw_npz" else STAGES[asset].outputs


def lineage(asset: str) -> set[str]:
    """The asset and all that it is made from."""
    return {asset}.union(*(lineage(name) for name in STAGES[asset].inputs))


def code_version(asset: str, profile: Profile) -> str:
    """Version of the stage's code and a digest of every setting and model pin that can change its result."""
    return f"{STAGES[asset].version}-{fingerprint(asset, *STAGES[asset].asked(profile))}"


def same_code(asset: str, code_version: str) -> bool:
    """Whether a code version is of the stage's code as it is now, whatever the settings."""
    return code_version.split("-")[0] == str(STAGES[asset].version)


def materialize_command(asset: str) -> str:
    """The command that makes an asset and all that it needs."""
    return f"dagster asset materialize -m vdm_pipeline.definitions --select '*{asset}'"
