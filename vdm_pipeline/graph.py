"""The one table of the pipeline: all assets and checks, their inputs, and the settings they depend on."""

from collections.abc import Callable
from dataclasses import dataclass

from vdm_pipeline.settings import Profile, fingerprint

FingerprintedSettings = Callable[[Profile], list]


@dataclass(frozen=True)
class StageSpec:
    """One asset and the stage that computes it, without Dagster.

    - ``outputs``: paths in the project folder, by role, all under ``data/`` or all under ``results/``.
    - ``fingerprinted_settings``: every setting and model digest that can change the result.
    - ``versioned_prefixes``: the data version hashes the files whose path starts with one of these. Files
      that differ between equal runs, such as timings and plots, stay out.
    - ``version``: raise it when the code changes the result.
    - ``scratch``: folders with half-done work that stay between runs, such as checkpoints.
    """

    asset: str
    inputs: tuple[str, ...]
    outputs: dict[str, str]
    fingerprinted_settings: FingerprintedSettings
    versioned_prefixes: tuple[str, ...] = ("data/", "results/")
    version: int = 1
    scratch: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckSpec:
    """One check of an asset, without Dagster; ``reads`` are further assets that it reads.

    A blocking check stops downstream assets until it has run on the current data and passed.
    """

    asset: str
    name: str
    fingerprinted_settings: FingerprintedSettings
    blocking: bool = False
    reads: tuple[str, ...] = ()
    version: int = 1


def _class_names(profile: Profile) -> list:
    return [list(profile.classes.names)]


def _labeller(profile: Profile) -> list:
    return [profile.labelling.model.id, profile.labelling.model.digest]


def _true_label_use(profile: Profile) -> list:
    """The settings that decide what the true labels are used for."""
    return [profile.labelling.calibration, profile.labelling.decision, profile.subset.captions_from]


def _base_model(profile: Profile) -> list:
    return [profile.training.base, profile.training.base.digest]


def _training(profile: Profile) -> list:
    return [profile.training, profile.training.base.digest]


def _generation(profile: Profile) -> list:
    """What all arms share. The LoRA's weight and the extra arms are fingerprinted by their own assets."""
    base, lcm_lora = profile.training.base, profile.generation.lcm_lora
    generation = profile.generation.fingerprint_values(exclude={"adapter_weight", "extra"})
    return [generation, profile.classes, base, base.digest, lcm_lora.digest, profile.training.resolution]


def _all_settings(profile: Profile) -> list:
    digests = {role: pin.digest for role, pin in profile.models().items()}
    return [profile.model_dump(mode="json", exclude={"automation", "execution"}), digests]


IGNORES_BLOCKING_CHECKS = ("label_metrics",)
"""Assets that may read an asset whose blocking check failed, because they help to find the cause."""

_REPORTED_STAGES = (
    StageSpec("raw_npz", (), {}, lambda p: [p.data, list(p.classes.names)]),
    StageSpec("image_embeddings", ("raw_npz",), {"folder": "results/embeddings"}, _labeller),
    StageSpec(
        "labeled_dataset",
        ("raw_npz", "image_embeddings"),
        {
            "table": "results/labeled_dataset.csv",
            "calibration": "results/metrics/calibration.json",
            "diff": "results/metrics/relabel_diff.csv",
        },
        lambda p: [p.labelling, *_labeller(p), list(p.classes.names), p.subset.captions_from],
        versioned_prefixes=("results/labeled_dataset.csv", "results/metrics/calibration.json"),
        version=2,
    ),
    StageSpec(
        "label_metrics",
        ("labeled_dataset",),
        {"metrics": "results/metrics/auto_label_metrics.json", "plots": "results/metrics/label_plots"},
        lambda p: [list(p.classes.names), p.evaluation.bootstrap, p.evaluation.seed, *_true_label_use(p)],
        versioned_prefixes=("results/metrics/auto_label_metrics.json",),
        version=3,
    ),
    StageSpec(
        "data_faults",
        ("raw_npz", "image_embeddings"),
        {"table": "results/metrics/data_faults.csv", "counts": "results/metrics/data_faults.json"},
        lambda p: [p.faults, list(p.classes.names)],
    ),
    StageSpec(
        "label_noise",
        ("raw_npz", "image_embeddings", "labeled_dataset"),
        {"table": "results/metrics/label_suspects.csv"},
        lambda p: [p.subset.captions_from, p.subset.seed, list(p.classes.names)],
    ),
    StageSpec(
        "lora_subset",
        ("raw_npz", "image_embeddings", "labeled_dataset", "data_faults", "label_noise"),
        {"folder": "data/subset", "held_out": "data/subset_held_out"},
        lambda p: [p.subset, p.classes],
        version=3,
    ),
    StageSpec(
        "lora_weights",
        ("lora_subset",),
        {"folder": "results/lora"},
        _training,
        versioned_prefixes=("results/lora/pytorch_lora_weights",),
        version=4,
        scratch=("results/.training",),
    ),
    StageSpec(
        "generated_images",
        ("lora_weights",),
        {"folder": "results/generated_images"},
        lambda p: [*_generation(p), p.generation.adapter_weight],
        version=5,
    ),
    StageSpec(
        "baseline_images",
        (),
        {"folder": "results/generated_images_no_fine_tuning"},
        _generation,
        version=5,
    ),
    StageSpec(
        "extra_images",
        ("lora_weights",),
        {"folder": "results/generated_images_extra"},
        lambda p: [*_generation(p), p.generation.fingerprint_values(include={"extra"})],
        version=4,
    ),
    StageSpec(
        "image_metrics",
        ("raw_npz", "data_faults", "lora_subset", "generated_images", "baseline_images", "extra_images"),
        {"metrics": "results/metrics/image_metrics.json", "plots": "results/metrics/image_plots"},
        # the file holds the name of the profile
        lambda p: [p.evaluation, p.training.resolution, p.name, *_labeller(p), list(p.classes.names)],
        versioned_prefixes=("results/metrics/image_metrics.json",),
        version=5,
    ),
)

REPORTED_ASSETS = tuple(stage.asset for stage in _REPORTED_STAGES)
"""The assets that the summary and the report describe."""

STAGES = {
    stage.asset: stage
    for stage in (
        *_REPORTED_STAGES,
        StageSpec(
            "pipeline_summary",
            REPORTED_ASSETS,
            {"summary": "results/pipeline_summary.json"},
            _all_settings,
            version=2,
        ),
        StageSpec(
            "report",
            (*REPORTED_ASSETS, "pipeline_summary"),
            {"folder": "results/report"},
            _all_settings,
            version=6,
        ),
    )
}

ARMS = ("generated_images", "baseline_images", "extra_images")
LORA_AND_BASELINE = ("generated_images", "baseline_images")


def _classes_and_data(profile: Profile) -> list:
    return [*_class_names(profile), profile.data]


def _label_quality(profile: Profile) -> list:
    return [*_class_names(profile), profile.subset.captions_from, profile.evaluation.bootstrap]


def _plan(profile: Profile) -> list:
    return [profile.classes, profile.generation.per_class, profile.generation.seed]


def _min_adapter_change(profile: Profile) -> list:
    return [profile.checks.min_adapter_change]


def _arm_checks(asset: str) -> tuple[CheckSpec, ...]:
    return (
        CheckSpec(asset, "images_are_complete", _plan, blocking=True),
        CheckSpec(asset, "images_are_not_blank", lambda p: [p.faults], blocking=True),
        CheckSpec(asset, "images_are_different", lambda p: [], blocking=True),
        CheckSpec(asset, "images_are_grey", lambda p: [p.checks.max_chroma]),
    )


CHECKS = {
    (check.asset, check.name): check
    for check in (
        CheckSpec(
            "labeled_dataset", "labels_are_sound", _classes_and_data, blocking=True, reads=("raw_npz",)
        ),
        CheckSpec(
            "labeled_dataset",
            "labels_predict_every_class",
            lambda p: [*_label_quality(p), p.checks.max_class_share],
            blocking=True,
        ),
        CheckSpec("labeled_dataset", "labels_beat_chance", _label_quality, blocking=True),
        CheckSpec(
            "labeled_dataset", "labels_are_calibrated", lambda p: [*_label_quality(p), p.checks.max_ece]
        ),
        CheckSpec("lora_subset", "subset_is_balanced", _class_names, blocking=True),
        CheckSpec("lora_subset", "subset_is_disjoint", _classes_and_data, blocking=True, reads=("raw_npz",)),
        CheckSpec("lora_subset", "subset_is_pure", lambda p: [p.checks.min_purity], blocking=True),
        *(check for asset in ARMS for check in _arm_checks(asset)),
        # the base model's tokenizer limits the length of a prompt
        CheckSpec("generated_images", "prompts_are_captions", _base_model, reads=("lora_subset",)),
        CheckSpec("image_metrics", "arms_share_one_plan", lambda p: [], reads=LORA_AND_BASELINE),
        CheckSpec("image_metrics", "adapter_is_active", _min_adapter_change, reads=LORA_AND_BASELINE),
        CheckSpec("image_metrics", "lora_beats_baseline", lambda p: []),
        CheckSpec("image_metrics", "images_are_not_copies", lambda p: [p.checks.max_copied]),
    )
}


def checks_of(asset: str) -> list[CheckSpec]:
    """The checks of an asset, in the order in which they run."""
    return [check for check in CHECKS.values() if check.asset == asset]


def outputs(asset: str, profile: Profile) -> dict[str, str]:
    """Paths that the asset writes, by role. The archive's name depends on the profile."""
    return {"archive": f"data/{profile.data.file_name}"} if asset == "raw_npz" else STAGES[asset].outputs


def lineage(asset: str) -> set[str]:
    """The asset and all its ancestors."""
    return {asset}.union(*(lineage(name) for name in STAGES[asset].inputs))


def code_version(asset: str, profile: Profile) -> str:
    """The stage's version and a hash of the settings and model digests that can change its result."""
    return f"{STAGES[asset].version}-{fingerprint(asset, *STAGES[asset].fingerprinted_settings(profile))}"


def has_current_stage_version(asset: str, code_version: str) -> bool:
    """Whether a code version has the stage's current version, whatever the settings."""
    return code_version.split("-")[0] == str(STAGES[asset].version)


def materialize_command(asset: str) -> str:
    """The command that materializes an asset and all its ancestors."""
    return f"dg launch --assets '*{asset}'"


def materialize_clicks(asset: str) -> tuple[str, ...]:
    """What to click in Dagster's UI for the same, beginning with the asset itself."""
    inputs = STAGES[asset].inputs
    if not inputs:
        return (asset, "Materialize")
    every_depth = ("All",) if lineage(asset) > {asset, *inputs} else ()
    return (asset, "Lineage", "Upstream", *every_depth, "Materialize all")


def how_to_materialize(asset: str) -> str:
    """The end of an error message: the command for a terminal, and the clicks in the UI."""
    return f"run: {materialize_command(asset)} (in the UI: {' > '.join(materialize_clicks(asset))})"
