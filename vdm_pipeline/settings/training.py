"""Sections of the training subset and of the LoRA training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vdm_pipeline.settings.base import Count, Section, Seed, Share, Text
from vdm_pipeline.settings.model_pin import ModelPin

Exclusion = Literal["duplicate", "near_duplicate", "blank", "saturated", "suspect"]


class Subset(Section):
    """`lora_subset`: the images that the adapter learns from."""

    per_class: Count = Field(description="images of each class")
    captions_from: Literal["auto_label", "ground_truth"] = Field(
        "auto_label", description="the label that selects and captions an image"
    )
    confident_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="automatic labels: select from this share of each class, the most confident"
    )
    diversity: Share = Field(
        0.3, description="automatic labels: weight of the distance to selected images, against confidence"
    )
    exclude: tuple[Exclusion, ...] = Field(
        ("duplicate", "near_duplicate", "blank", "saturated", "suspect"),
        description="faults and suspect labels to exclude; images that also occur in val or test always are",
    )
    validation_per_class: Annotated[int, Field(ge=0, le=10_000)] = Field(
        16, description="val images of each class for the validation loss, fewer if val has fewer"
    )
    seed: Seed = Field(0, description="order of images with equal rank")


class Training(Section):
    """`lora_weights`: LoRA on a Stable Diffusion UNet; docs/profiles.md lists peft's and diffusers' names."""

    base: ModelPin = Field(description="the Stable Diffusion folder or repository")
    resolution: Annotated[int, Field(gt=0, le=4096)] = Field(
        description="side of the training images, pixels; a multiple of 8"
    )
    rank: Annotated[int, Field(gt=0, le=1024)] = Field(8, description="rank of the LoRA matrices (peft: r)")
    alpha: Annotated[float, Field(gt=0)] = Field(
        8, description="LoRA scale is alpha / rank (peft: lora_alpha)"
    )
    target_modules: tuple[Text, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0"),
        min_length=1,
        description="UNet layers that get LoRA, by name suffix (peft: target_modules)",
    )
    max_train_steps: Count = Field(description="optimizer steps")
    batch_size: Annotated[int, Field(gt=0, le=65_536)] = Field(
        description="images per step, over all processes and micro-batches"
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(1e-4, description="peak of AdamW's rate")
    lr_warmup_steps: Annotated[int, Field(ge=0)] = Field(0, description="steps of linear warm-up")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-2, description="of AdamW")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(
        1.0, description="gradients are clipped to this norm"
    )
    lr_scheduler: Literal["constant", "cosine"] = Field(
        "cosine",
        description="rate after the warm-up; cosine falls to a tenth at the last step; "
        "constant lets a later run add steps",
    )
    snr_gamma: Annotated[float, Field(gt=0)] | None = Field(
        None, description="gamma of the min-SNR loss weights, usually 5; leave it out for plain weights"
    )
    noise_offset: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="scale of the noise that is constant within a channel"
    )
    use_rslora: bool = Field(False, description="LoRA scale is alpha / sqrt(rank) (peft: use_rslora)")
    use_dora: bool = Field(
        False,
        description="learn the magnitude of each output's weights apart from the direction (peft: use_dora)",
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="the adapter is an exponential moving average of its weights; leave it out for none"
    )
    max_nonfinite_steps: Annotated[int, Field(ge=0)] = Field(
        5, description="consecutive steps with a non-finite gradient that are skipped before training stops"
    )
    random_flip: bool = Field(
        False, description="mirror half of the images; the heart is then on either side"
    )
    seed: Seed = Field(0, description="initial LoRA weights, batches and noise")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.resolution % 8:
            multiple = self.resolution // 8 * 8 or 8
            raise ValueError(f"resolution = {self.resolution} is not a multiple of 8; use {multiple}")
        if self.lr_warmup_steps >= self.max_train_steps:
            raise ValueError(
                f"lr_warmup_steps = {self.lr_warmup_steps} must be below "
                f"max_train_steps = {self.max_train_steps}"
            )
        return self
