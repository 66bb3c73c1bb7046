"""What is asked for: a profile, one frozen section a stage. Everything that changes a result stands here."""

import hashlib
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vdm_pipeline.errors import SettingsError

PROFILES = Path(__file__).parent / "profiles"
DEFAULT_PROFILE = "demo"

Count = Annotated[int, Field(gt=0, le=10_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=1_000_000)]


class Section(BaseModel):
    """Frozen; unknown keys, infinities and values of another type (``"500"`` for 500) are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelPin(Section):
    """One model, pinned: ``embedded:<name>``, a hub id with its commit, or a local folder with its sha256."""

    id: str = Field(description="embedded:<name>, a hub id (owner/name), or the path of a local folder")
    revision: str | None = Field(None, description="commit of a hub repository, 40 hex digits")
    sha256: str | None = Field(None, description="digest of a local folder, as `python -m vdm_pipeline.stages.models PATH` prints it")
    licence: str = Field(description="licence of the weights, for the report")

    @property
    def source(self) -> Literal["embedded", "folder", "hub"]:
        """Where the model comes from, told by the form of its id."""
        if self.id.startswith("embedded:"):
            return "embedded"
        if self.id.startswith((".", "/", "~")) or self.id.count("/") != 1:
            return "folder"
        return "hub"

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.source == "hub" and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.id):
            raise ValueError(f"'{self.id}' is neither embedded:<name>, nor a hub id owner/name, nor the path of a folder")
        if self.source == "hub" and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError(f"'{self.id}' comes from a hub, so it needs revision = \"<commit, 40 hex digits>\"")
        if self.source == "folder" and not re.fullmatch(r"[0-9a-f]{64}", self.sha256 or ""):
            raise ValueError(
                f"'{self.id}' is a folder, so it needs sha256 = \"<64 hex digits>\"; "
                f"print it with: python -m vdm_pipeline.stages.models {self.id}"
            )
        return self


class Data(Section):
    """`raw_npz`: which archive, and from where."""

    dataset: str = Field(description="MedMNIST flag such as 'pneumoniamnist', or 'phantom'")
    size: Literal[28, 32, 64, 128, 224] = Field(description="side of the archive's images, pixels")
    source: Literal["file", "download", "phantom"] = Field(
        description="file: data/<name>.npz must be there; download: fetched from MedMNIST with its MD5; phantom: rendered here"
    )
    train: Count = Field(2000, description="phantom only: images in train")
    val: Count = Field(400, description="phantom only: images in val")
    test: Count = Field(400, description="phantom only: images in test")
    pneumonia_share: Share = Field(0.5, description="phantom only: share of films with pneumonia")
    seed: Seed = Field(0, description="phantom only: series of patients")

    @model_validator(mode="after")
    def _phantom_by_name(self) -> Self:
        if (self.dataset == "phantom") != (self.source == "phantom"):
            raise ValueError('dataset = "phantom" and source = "phantom" go together; set both or neither')
        return self

    @property
    def file_name(self) -> str:
        """Name of the archive in ``data/``, as MedMNIST gives it: no suffix at 28 pixels."""
        suffix = "" if self.size == 28 and self.source != "phantom" else f"_{self.size}"
        return f"{self.dataset}{suffix}.npz"


class Classes(Section):
    """What the classes are called; position i stands for label i everywhere."""

    names: tuple[str, ...] = Field(min_length=2, description="one name a class, in label order; columns are p_<name>")
    phrases: tuple[str, ...] = Field(description="the words a caption uses for each class, in label order")
    template: str = Field(description="caption and generation prompt; {phrase} is replaced")

    @field_validator("names")
    @classmethod
    def _plain_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
                raise ValueError(f"class name {name!r} must be lower-case letters, digits, '-' and '_'")
        if len(set(names)) != len(names):
            raise ValueError("class names must differ")
        if "overall" in names:
            raise ValueError("no class can be called 'overall', as that is the row of all classes together")
        return names

    @model_validator(mode="after")
    def _one_phrase_a_class(self) -> Self:
        if len(self.phrases) != len(self.names):
            raise ValueError(f"{len(self.names)} names but {len(self.phrases)} phrases; give one phrase a class")
        if len(set(self.phrases)) != len(self.phrases):
            raise ValueError("phrases must differ, or the classes share one caption")
        if "{phrase}" not in self.template:
            raise ValueError("template must contain {phrase}")
        return self

    def caption(self, label: int) -> str:
        """The one caption of a class, for training and for generation alike."""
        return self.template.replace("{phrase}", self.phrases[label])


class Labelling(Section):
    """`labeled_dataset`: zero-shot labels by an open_clip model."""

    model: ModelPin = Field(description="the open_clip model")
    prompts: tuple[tuple[str, ...], ...] = Field(description="one list of prompts a class, in label order; position decides")

    @field_validator("prompts")
    @classmethod
    def _none_empty(cls, prompts: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        everything = [prompt.strip() for group in prompts for prompt in group]
        if not all(prompts) or not all(everything):
            raise ValueError("every class needs at least one prompt that is not blank")
        if len(set(everything)) != len(everything):
            raise ValueError("the same prompt stands twice; each may stand for one class only")
        return prompts


class Subset(Section):
    """`lora_subset`: what the adapter learns from."""

    per_class: Count = Field(description="images of each class")
    captions_from: Literal["auto_label", "ground_truth"] = Field("auto_label", description="which label chooses and captions an image")
    seed: Seed = Field(0, description="order in which equals are taken")


class Training(Section):
    """`lora_weights`: LoRA on a Stable Diffusion UNet."""

    base: ModelPin = Field(description="the Stable Diffusion folder or repository")
    resolution: Annotated[int, Field(gt=0, le=4096)] = Field(description="side of the training images, pixels; a multiple of 8")
    rank: Annotated[int, Field(gt=0, le=1024)] = Field(8, description="rank of the LoRA matrices")
    alpha: Annotated[float, Field(gt=0)] = Field(8, description="LoRA scale is alpha / rank")
    target_modules: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0"), min_length=1, description="UNet layers that get LoRA, by name suffix"
    )
    steps: Count = Field(description="optimizer steps")
    batch: Annotated[int, Field(gt=0, le=65_536)] = Field(description="images a step")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(1e-4, description="peak, AdamW")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(0, description="steps of linear warm-up")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-2, description="AdamW")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="gradients are clipped to this norm")
    flip: bool = Field(False, description="mirror half of the images; the heart then stands on either side")
    seed: Seed = Field(0, description="start of LoRA, batches and noise")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.resolution % 8:
            raise ValueError(f"resolution = {self.resolution} is no multiple of 8; take {self.resolution // 8 * 8 or 8}")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps = {self.warmup_steps} must be below steps = {self.steps}")
        return self


class Generation(Section):
    """`generated_images` and `baseline_images`: one plan, two adapters."""

    lcm_lora: ModelPin = Field(description="the LCM-LoRA of the base")
    per_class: Count = Field(description="images of each class and arm")
    steps: Annotated[int, Field(ge=1, le=50)] = Field(4, description="LCM steps")
    guidance_scale: Annotated[float, Field(ge=1, le=100)] = Field(1.0, description="1 = no classifier-free guidance, and half the work")
    lcm_weight: Annotated[float, Field(gt=0, le=100)] = Field(1.0, description="weight of the LCM adapter, both arms")
    adapter_weight: Annotated[float, Field(gt=0, le=100)] = Field(1.0, description="weight of our adapter, LoRA arm only")
    seed: Seed = Field(0, description="image i uses seed + i")
    grey: bool = Field(True, description="save grey images; false keeps the three channels")


class Evaluation(Section):
    """`image_metrics`."""

    judge_epochs: Count = Field(8, description="passes of the judge CNN over the real train split")
    bootstrap: Annotated[int, Field(gt=0, le=100_000)] = Field(1000, description="resamples for each 95 % interval")
    seed: Seed = Field(0, description="judge and resampling")


class Execution(Section):
    """How, not what: none of these changes a result beyond float tolerance, so none is part of a fingerprint."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is one")
    label_batch: Count = Field(64, description="images a forward pass of the labeller")
    image_batch: Count = Field(32, description="images a forward pass of VAE and sampler")
    checkpoint_every: Count = Field(100, description="training steps between checkpoints")
    log_every: Count = Field(50, description="training steps between log lines")


class Profile(Section):
    """Every value of a run."""

    name: str = Field(description="stands on everything that the run writes")
    data: Data
    classes: Classes
    labelling: Labelling
    subset: Subset
    training: Training
    generation: Generation
    evaluation: Evaluation = Evaluation()
    execution: Execution = Execution()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.labelling.prompts) != len(self.classes.names):
            raise ValueError(
                f"labelling.prompts has {len(self.labelling.prompts)} lists for {len(self.classes.names)} classes; give one list a class"
            )
        if self.data.source == "phantom" and len(self.classes.names) != 2:
            raise ValueError("phantoms have two classes, normal and pneumonia; classes.names must have two")
        return self

    def models(self) -> dict[str, ModelPin]:
        """Every model of the run, by its role."""
        return {"labeller": self.labelling.model, "base": self.training.base, "lcm_lora": self.generation.lcm_lora}


def load_profile(name: str | None = None) -> Profile:
    """Load a profile by the name of a shipped one or by a path; without a name, ``$VDM_PROFILE`` or ``demo``.

    Raises `SettingsError` with one sentence for an unknown name, a file that is no TOML, or a value that is refused.
    """
    name = name or os.environ.get("VDM_PROFILE") or DEFAULT_PROFILE
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    if not _is_file(path):
        known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.toml")))
        raise SettingsError(f"VDM_PROFILE is '{name}', which is neither a shipped profile ({known}) nor a .toml file that exists.")
    try:
        return Profile.model_validate_json(json.dumps(tomllib.loads(path.read_text(encoding="utf-8")), default=str))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no valid TOML: {error}.") from None
    except ValidationError as error:
        raise SettingsError(f"{path}: {_first_fault(error)}.") from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system
        return False


def fingerprint(*values: BaseModel | str | int | dict | None) -> str:
    """Sixteen hex digits that change when any of the values changes."""
    plain = [value.model_dump(mode="json") if isinstance(value, BaseModel) else value for value in values]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _first_fault(error: ValidationError) -> str:
    faults = error.errors()
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])  # a misspelt key is also a missing one
    field = ".".join(str(part) for part in fault["loc"]) or "the profile"
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{field}'; remove it or correct its spelling{more}"
    if fault["type"] == "missing":
        return f"'{field}' is missing{more}"
    value = fault["input"]
    given = f" (it is {value!r})" if isinstance(value, str | int | float | bool) else ""
    return f"{field}: {fault['msg'].removeprefix('Value error, ')}{given}{more}"
