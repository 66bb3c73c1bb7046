"""The one table of the pipeline: all assets and checks, their inputs, and the settings they depend on."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

from vdm_pipeline.settings import Profile, fingerprint

FingerprintedSettings = Callable[[Profile], list]


ALL = ("*",)
"""Every part of an input."""


@dataclass(frozen=True)
class Part:
    """Content of one output that downstream assets read, with a data version of its own.

    A pattern such as ``*.png`` or ``metadata.jsonl`` selects files of the output by the end of their path.

    - ``output``: the output's role.
    - ``files``: patterns of files that count as a whole.
    - ``fields``: of files by pattern, the only columns, keys or arrays that count.
    - ``without``: of files by pattern, the keys, columns or sections of HTML that do not count.
    """

    output: str
    files: tuple[str, ...] = ()
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    without: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def whole(output: str) -> Part:
    """All bytes of all files of an output."""
    return Part(output, ("*",))


def _captioned_images(output: str) -> Part:
    """What a training reads of an imagefolder."""
    return Part(output, ("*.png",), {"metadata.jsonl": ("file_name", "text")})


@dataclass(frozen=True)
class StageSpec:
    """One asset and the stage that computes it, without Dagster.

    - ``inputs``: the parts that it reads, by upstream asset. It cannot open any other output.
    - ``outputs``: paths in the project folder, by role, all under ``data/`` or all under ``results/``.
    - ``fingerprinted_settings``: every setting and model digest that can change the result.
    - ``parts``: the content that has data versions; by default each output is one part. What no part covers,
      such as timings, may differ between equal runs, and no downstream asset depends on it.
    - ``version``: raise it when the code changes the result.
    - ``scratch``: folders with half-done work that stay between runs, such as checkpoints.
    """

    asset: str
    inputs: dict[str, tuple[str, ...]]
    outputs: dict[str, str]
    fingerprinted_settings: FingerprintedSettings
    parts: dict[str, Part] = field(default_factory=dict)
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
    generation = profile.generation.fingerprint_values(exclude={"adapter_weight", "extra", "grey"})
    generation |= {"grey": profile.saves_grey}
    return [generation, profile.classes, base, base.digest, lcm_lora.digest, profile.training.resolution]


def _all_settings(profile: Profile) -> list:
    digests = {role: pin.digest for role, pin in profile.models().items()}
    return [profile.model_dump(mode="json", exclude={"automation", "execution"}), digests]


IGNORES_BLOCKING_CHECKS = ("label_metrics",)
"""Assets that may read an asset whose blocking check failed, because they help to find the cause."""

SPLITS = ("train", "val", "test")
IMAGES = tuple(f"{split}_images" for split in SPLITS)
"""Parts of the archive, under the names of its arrays."""
ARCHIVE_PARTS = {
    "archive": whole("archive"),
    **{name: Part("archive", fields={"*": (name,)}) for name in IMAGES},
    "labels": Part("archive", fields={"*": tuple(f"{split}_labels" for split in SPLITS)}),
}
PIXELS = {"metadata.jsonl": ("file_name", "label", "chroma", "pixels_sha256")}
"""The hash stands for the PNG, whatever its compression and its text."""
ARM_PARTS = {"records": Part("folder", ("metadata.jsonl",)), "pixels": Part("folder", fields=PIXELS)}

_REPORTED_STAGES = (
    StageSpec("raw_npz", {}, {}, lambda p: [p.data, list(p.classes.names)], ARCHIVE_PARTS),
    StageSpec(
        "image_embeddings",
        {"raw_npz": IMAGES},
        {"folder": "results/embeddings"},
        _labeller,
        parts={split: Part("folder", (f"{split}_*",)) for split in SPLITS},
    ),
    StageSpec(
        "labeled_dataset",
        {"raw_npz": ("labels",), "image_embeddings": ALL},
        {
            "table": "results/labeled_dataset.csv",
            "calibration": "results/metrics/calibration.json",
            "diff": "results/metrics/relabel_diff.csv",
        },
        lambda p: [p.labelling, *_labeller(p), list(p.classes.names), p.subset.captions_from],
        parts={
            "table": whole("table"),
            "labels": Part("table", fields={"*": ("image_id", "split", "auto_label", "ground_truth_label")}),
            "calibration": whole("calibration"),
        },
        version=2,
    ),
    StageSpec(
        "label_metrics",
        {"labeled_dataset": ("table",)},
        {"metrics": "results/metrics/auto_label_metrics.json", "plots": "results/metrics/label_plots"},
        lambda p: [list(p.classes.names), p.evaluation.bootstrap, p.evaluation.seed, *_true_label_use(p)],
        version=3,
    ),
    StageSpec(
        "data_faults",
        {"raw_npz": (*IMAGES, "labels"), "image_embeddings": ALL},
        {"table": "results/metrics/data_faults.csv", "counts": "results/metrics/data_faults.json"},
        lambda p: [p.faults, list(p.classes.names)],
        parts={"table": Part("table", without={"*": ("value",)}), "counts": whole("counts")},
    ),
    StageSpec(
        "label_noise",
        {"raw_npz": ("train_images",), "image_embeddings": ("train",), "labeled_dataset": ("labels",)},
        {"table": "results/metrics/label_suspects.csv"},
        lambda p: [p.subset.captions_from, p.subset.seed, list(p.classes.names)],
        parts={"table": whole("table"), "suspects": Part("table", fields={"*": ("image_id",)})},
    ),
    StageSpec(
        "lora_subset",
        {
            "raw_npz": ("train_images", "val_images"),
            "image_embeddings": ("train",),
            "labeled_dataset": ("table",),
            "data_faults": ("table",),
            "label_noise": ("suspects",),
        },
        {"folder": "data/subset", "held_out": "data/subset_held_out"},
        lambda p: [p.subset, p.classes],
        parts={
            "training_set": _captioned_images("folder"),
            "records": Part(
                "folder", fields={"metadata.jsonl": ("file_name", "image_id", "label", "ground_truth")}
            ),
            "held_out": _captioned_images("held_out"),
        },
        version=5,
    ),
    StageSpec(
        "lora_weights",
        {"lora_subset": ("training_set", "held_out")},
        {"folder": "results/lora"},
        _training,
        parts={
            "weights": Part("folder", ("pytorch_lora_weights.safetensors",)),
            "loss_plot": Part("folder", ("loss.png",)),
        },
        version=5,
        scratch=("results/.training",),
    ),
    StageSpec(
        "generated_images",
        {"lora_weights": ("weights",)},
        {"folder": "results/generated_images"},
        lambda p: [*_generation(p), p.generation.adapter_weight],
        parts=ARM_PARTS,
        version=6,
    ),
    StageSpec(
        "baseline_images",
        {},
        {"folder": "results/generated_images_no_fine_tuning"},
        _generation,
        parts=ARM_PARTS,
        version=6,
    ),
    StageSpec(
        "extra_images",
        {"lora_weights": ("weights",)},
        {"folder": "results/generated_images_extra"},
        lambda p: [*_generation(p), p.generation.fingerprint_values(include={"extra"})],
        parts={
            "records": Part("folder", ("arms.json", "metadata.jsonl")),
            "pixels": Part("folder", ("arms.json",), fields=PIXELS),
        },
        version=5,
    ),
    StageSpec(
        "image_metrics",
        {
            "raw_npz": (*IMAGES, "labels"),
            "data_faults": ("table",),
            "lora_subset": ("training_set", "records"),
            "generated_images": ("pixels",),
            "baseline_images": ("pixels",),
            "extra_images": ("pixels",),
        },
        {"metrics": "results/metrics/image_metrics.json", "plots": "results/metrics/image_plots"},
        lambda p: [p.evaluation, p.training.resolution, *_labeller(p), list(p.classes.names)],
        version=8,
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
            {
                "raw_npz": ("archive",),
                "label_metrics": ("metrics",),
                "generated_images": ("records",),
                "image_metrics": ("metrics",),
            },
            {"summary": "results/pipeline_summary.json"},
            _all_settings,
            parts={
                "summary": Part("summary", without={"*": ("device", "durations_s", "peak_memory_mb")}),
            },
            version=2,
        ),
        StageSpec(
            "report",
            {**dict.fromkeys(REPORTED_ASSETS, ALL), "pipeline_summary": ("summary",)},
            {"folder": "results/report"},
            lambda p: [*_all_settings(p), *(code_version(asset, p) for asset in REPORTED_ASSETS)],
            parts={"page": Part("folder", ("contact_sheet.png",), without={"index.html": ("cost",)})},
            version=9,
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
        CheckSpec(asset, "images_are_grey", lambda p: [p.checks.max_chroma, p.data.in_colour]),
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
        CheckSpec("image_metrics", "arms_share_one_plan", lambda p: [], reads=LORA_AND_BASELINE, version=2),
        CheckSpec(
            "image_metrics", "adapter_is_active", _min_adapter_change, reads=LORA_AND_BASELINE, version=2
        ),
        CheckSpec("image_metrics", "lora_beats_baseline", lambda p: [], version=2),
        CheckSpec("image_metrics", "images_are_not_copies", lambda p: [p.checks.max_copied], version=3),
    )
}


def checks_of(asset: str) -> list[CheckSpec]:
    """The checks of an asset, in the order in which they run."""
    return [check for check in CHECKS.values() if check.asset == asset]


def outputs(asset: str, profile: Profile) -> dict[str, str]:
    """Paths that the asset writes, by role. The archive's name depends on the profile."""
    return {"archive": f"data/{profile.data.file_name}"} if asset == "raw_npz" else STAGES[asset].outputs


def parts(asset: str) -> dict[str, Part]:
    """The content of the asset that has data versions, by name."""
    stage = STAGES[asset]
    return stage.parts or {role: whole(role) for role in stage.outputs}


def parts_read(asset: str, source: str) -> tuple[str, ...]:
    """The parts of ``source`` that the asset reads."""
    read = STAGES[asset].inputs[source]
    return tuple(parts(source)) if read == ALL else read


def lineage(asset: str) -> set[str]:
    """The asset and all its ancestors."""
    return {asset}.union(*(lineage(name) for name in STAGES[asset].inputs))


def code_version(asset: str, profile: Profile) -> str:
    """The stage's version, and a hash of its parts and of the settings and model digests it depends on."""
    stage, covered = STAGES[asset], {name: asdict(part) for name, part in parts(asset).items()}
    return f"{stage.version}-{fingerprint(asset, covered, *stage.fingerprinted_settings(profile))}"


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
