"""One frozen section a stage: what is asked for."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from vdm_pipeline.settings.base import Count, ModelPin, Name, Section, Seed, Sha256, Share, Text


class OwnArchive(Section):
    """An archive in MedMNIST's format that MedMNIST does not list; nothing is known of it but what stands here."""

    channels: Literal[1, 3] = Field(
        description="1: grey images [n, size, size]; 3: colour images [n, size, size, 3]"
    )
    sha256: Sha256 = Field(description="of the file, as sha256sum prints it")
    licence: Text = Field(description="licence of the images, for the report")


class Data(Section):
    """`raw_npz`: which archive, and from where."""

    dataset: Name = Field(
        description="MedMNIST flag such as 'pneumoniamnist', or 'phantom', or the name of an own archive"
    )
    size: Literal[28, 32, 64, 128, 224] = Field(description="side of the archive's images, pixels")
    source: Literal["file", "download", "phantom"] = Field(
        description="file: data/<name>.npz must be there; download: fetched from MedMNIST with its MD5; phantom: rendered here"
    )
    own: OwnArchive | None = Field(
        None, description="what to expect of an archive that MedMNIST does not list; source = file"
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

    @model_validator(mode="after")
    def _own_is_a_file(self) -> Self:
        if self.own and self.source != "file":
            raise ValueError(
                f'own describes a file in data/, and source is "{self.source}"; set source = "file"'
            )
        return self

    @property
    def file_name(self) -> str:
        """Name of the archive in ``data/``, as MedMNIST gives it: no suffix at 28 pixels."""
        suffix = "" if self.size == 28 and self.source != "phantom" else f"_{self.size}"
        return f"{self.dataset}{suffix}.npz"


class Classes(Section):
    """What the classes are called; position i stands for label i everywhere."""

    names: tuple[Name, ...] = Field(
        min_length=2, description="one name a class, in label order; columns are p_<name>"
    )
    phrases: tuple[Text, ...] = Field(description="the words a caption uses for each class, in label order")
    template: Text = Field(description="caption and generation prompt; {phrase} is replaced")

    @field_validator("names")
    @classmethod
    def _different_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("class names must differ")
        if "overall" in names:
            raise ValueError("no class can be called 'overall', as that is the row of all classes together")
        return names

    @model_validator(mode="after")
    def _one_phrase_a_class(self) -> Self:
        if len(self.phrases) != len(self.names):
            raise ValueError(
                f"{len(self.names)} names but {len(self.phrases)} phrases; give one phrase a class"
            )
        if len(set(self.phrases)) != len(self.phrases):
            raise ValueError("phrases must differ, or the classes share one caption")
        if "{phrase}" not in self.template:
            raise ValueError("template must contain {phrase}")
        return self

    def caption(self, label: int) -> str:
        """The one caption of a class, for training and for generation alike."""
        return self.template.replace("{phrase}", self.phrases[label])


class Labelling(Section):
    """`image_embeddings` and `labeled_dataset`: zero-shot labels by an open_clip model, calibrated on val."""

    model: ModelPin = Field(description="the open_clip model")
    text_model: ModelPin | None = Field(
        None,
        description="what the labeller's text tower is built after, where its configuration names another repository",
    )
    templates: tuple[Text, ...] = Field(
        min_length=1, description="prompts, each with {phrase}; their embeddings are averaged"
    )
    phrases: tuple[tuple[Text, ...], ...] = Field(
        description="one list of phrases a class, in label order; position decides, never words"
    )
    calibration: Literal["none", "platt", "prior"] = Field(
        "none",
        description="platt: temperature and bias learnt from the true labels of val; prior: bias alone, from `prior`, no label used; "
        "none: the model's own probabilities",
    )
    prior: tuple[Share, ...] | None = Field(
        None, description="for calibration = prior: expected share of each class, summing to 1"
    )
    decision: Literal["argmax", "balanced_accuracy", "f1", "sensitivity"] = Field(
        "argmax",
        description="where to cut: at the largest probability, or as is best on val for the named figure; f1 and sensitivity: class 1",
    )
    sensitivity: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="for decision = sensitivity: share of class 1 to be found"
    )

    @property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """Every template with every phrase, one list a class."""
        return tuple(
            tuple(template.replace("{phrase}", phrase) for template in self.templates for phrase in group)
            for group in self.phrases
        )

    @model_validator(mode="after")
    def _prompts_differ(self) -> Self:
        if not all("{phrase}" in template for template in self.templates):
            raise ValueError("every one of labelling.templates must contain {phrase}")
        if not all(self.phrases):
            raise ValueError("every class needs at least one phrase")
        everything = [prompt for group in self.prompts for prompt in group]
        if len(set(everything)) != len(everything):
            raise ValueError("the same prompt stands twice; each may stand for one class only")
        return self

    @model_validator(mode="after")
    def _calibration_has_what_it_needs(self) -> Self:
        if self.decision != "argmax" and self.calibration != "platt":
            raise ValueError(
                f'decision = "{self.decision}" is found on calibrated probabilities; set calibration = "platt"'
            )
        if self.decision in ("f1", "sensitivity") and len(self.phrases) != 2:
            raise ValueError(
                f'decision = "{self.decision}" is for two classes; take "balanced_accuracy" or "argmax"'
            )
        if (self.calibration == "prior") != (self.prior is not None):
            raise ValueError('calibration = "prior" and prior = [...] go together; set both or neither')
        if self.prior is not None and (
            len(self.prior) != len(self.phrases) or abs(sum(self.prior) - 1) > 1e-6 or not all(self.prior)
        ):
            raise ValueError("prior must hold one share above 0 a class, summing to 1")
        return self


class Faults(Section):
    """`data_faults`: what counts as a fault of an image."""

    near_duplicate_cosine: Share = Field(
        0.9, description="whitened embeddings at least this close are the same film, changed a little"
    )
    blank_std: Annotated[float, Field(ge=0)] = Field(
        4.0, description="images of a smaller deviation are blank, grey levels"
    )
    saturated_share: Share = Field(
        0.6, description="images with this share of pixels at 0 or 255 are saturated"
    )


class Subset(Section):
    """`lora_subset`: what the adapter learns from."""

    per_class: Count = Field(description="images of each class")
    captions_from: Literal["auto_label", "ground_truth"] = Field(
        "auto_label", description="which label chooses and captions an image"
    )
    confident_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="automatic labels: only this share of each class, the most confident, is chosen from"
    )
    diversity: Share = Field(
        0.3,
        description="automatic labels: weight of unlikeness to what is chosen already, against confidence",
    )
    exclude: tuple[Literal["duplicate", "near_duplicate", "blank", "saturated", "suspect"], ...] = Field(
        ("duplicate", "near_duplicate", "blank", "saturated", "suspect"),
        description="faults and doubted labels that are not chosen; what also stands in val or test never is",
    )
    validation_per_class: Annotated[int, Field(ge=0, le=10_000)] = Field(
        16,
        description="val images of each class, as far as there are, for the validation loss; training sees none of them",
    )
    seed: Seed = Field(0, description="order in which equals are taken")


class Training(Section):
    """`lora_weights`: LoRA on a Stable Diffusion UNet."""

    base: ModelPin = Field(description="the Stable Diffusion folder or repository")
    resolution: Annotated[int, Field(gt=0, le=4096)] = Field(
        description="side of the training images, pixels; a multiple of 8"
    )
    rank: Annotated[int, Field(gt=0, le=1024)] = Field(8, description="rank of the LoRA matrices")
    alpha: Annotated[float, Field(gt=0)] = Field(8, description="LoRA scale is alpha / rank")
    target_modules: tuple[Text, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0"),
        min_length=1,
        description="UNet layers that get LoRA, by name suffix",
    )
    max_train_steps: Count = Field(description="optimizer steps")
    batch_size: Annotated[int, Field(gt=0, le=65_536)] = Field(description="images a step")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(1e-4, description="peak, AdamW")
    lr_warmup_steps: Annotated[int, Field(ge=0)] = Field(0, description="steps of linear warm-up")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-2, description="AdamW")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(
        1.0, description="gradients are clipped to this norm"
    )
    lr_scheduler: Literal["constant", "cosine"] = Field(
        "cosine",
        description="learning rate after the warm-up; cosine falls to a tenth at the last step; constant can go on later",
    )
    snr_gamma: Annotated[float, Field(gt=0)] | None = Field(
        None, description="min-SNR weights of the loss; 5 is usual; none without"
    )
    noise_offset: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="share of noise that is one number a channel"
    )
    use_rslora: bool = Field(False, description="LoRA scale is alpha / sqrt(rank)")
    use_dora: bool = Field(
        False, description="learn the length of each output's weights apart from their direction"
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="the adapter is a running mean of its weights"
    )
    max_nonfinite_steps: Annotated[int, Field(ge=0)] = Field(
        5, description="steps in a row with a gradient that is not finite, skipped before it stops"
    )
    random_flip: bool = Field(
        False, description="mirror half of the images; the heart then stands on either side"
    )
    seed: Seed = Field(0, description="start of LoRA, batches and noise")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.resolution % 8:
            raise ValueError(
                f"resolution = {self.resolution} is no multiple of 8; take {self.resolution // 8 * 8 or 8}"
            )
        if self.lr_warmup_steps >= self.max_train_steps:
            raise ValueError(
                f"warmup_max_train_steps = {self.lr_warmup_steps} must be below max_train_steps = {self.max_train_steps}"
            )
        return self


RESERVED_ARMS = ("real", "baseline", "lora", "overall")
"""Names that the metrics give to other sets of images."""


class ExtraArm(Section):
    """One more arm of the same plan: another scheduler, or another weight of our adapter."""

    name: Name = Field(description="folder and row of the arm: lower-case letters, digits, '-' and '_'")
    scheduler: Literal["lcm", "dpm"] = Field("lcm", description="dpm: DPM-Solver++, without the LCM-LoRA")
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="steps of the scheduler; lcm: at most 50"
    )
    guidance_scale: Annotated[float, Field(ge=1, le=100)] = Field(
        1.0, description="1 = no classifier-free guidance, and half the work"
    )
    adapter_weight: Annotated[float, Field(ge=0, le=100)] = Field(
        1.0, description="weight of our adapter; 0: without it"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.name in RESERVED_ARMS:
            raise ValueError(
                f"no extra arm can be called '{self.name}', as the metrics have a row of that name; take another"
            )
        if self.scheduler == "lcm" and self.num_inference_steps > 50:
            raise ValueError(
                f'num_inference_steps = {self.num_inference_steps} is more than the 50 that LCM knows; take fewer, or scheduler = "dpm"'
            )
        return self


class Generation(Section):
    """`generated_images`, `baseline_images` and `extra_images`: one plan for all arms."""

    lcm_lora: ModelPin = Field(description="the LCM-LoRA of the base")
    per_class: Count = Field(description="images of each class and arm")
    num_inference_steps: Annotated[int, Field(ge=1, le=50)] = Field(4, description="LCM steps")
    guidance_scale: Annotated[float, Field(ge=1, le=100)] = Field(
        1.0, description="1 = no classifier-free guidance, and half the work"
    )
    lcm_weight: Annotated[float, Field(gt=0, le=100)] = Field(
        1.0, description="weight of the LCM adapter, both arms"
    )
    adapter_weight: Annotated[float, Field(gt=0, le=100)] = Field(
        1.0, description="weight of our adapter, LoRA arm only"
    )
    seed: Seed = Field(0, description="image i uses seed + i")
    grey: bool = Field(True, description="save grey images; false keeps the three channels")
    extra: tuple[ExtraArm, ...] = Field(
        (), description="further arms, such as another scheduler or a sweep of the adapter's weight"
    )

    @field_validator("extra")
    @classmethod
    def _one_name_an_arm(cls, extra: tuple[ExtraArm, ...]) -> tuple[ExtraArm, ...]:
        names = [arm.name for arm in extra]
        if len(set(names)) != len(names):
            raise ValueError("names of extra arms must differ")
        return extra


class Evaluation(Section):
    """`image_metrics`."""

    features: ModelPin | None = Field(
        None,
        description="a vision transformer, such as DINOv2, for the second feature space; none: handcrafted features, offline",
    )
    judge_epochs: Count = Field(8, description="passes of the judge CNN over the real train split")
    utility_epochs: Count = Field(
        10, description="passes of each classifier of the utility test over its training images"
    )
    utility_seeds: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="classifiers a training set, each with another seed"
    )
    bootstrap: Annotated[int, Field(ge=50, le=100_000)] = Field(
        1000, description="resamples for each 95 % interval"
    )
    seed: Seed = Field(0, description="judge and resampling")
