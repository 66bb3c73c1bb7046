"""Sections of the metrics and of the limits that the checks apply."""

from typing import Annotated

from pydantic import Field

from vdm_pipeline.settings.base import Count, Section, Seed, Share
from vdm_pipeline.settings.model_pin import ModelPin

GreyLevels = Annotated[float, Field(ge=0, le=255)]


class Evaluation(Section):
    """`image_metrics`."""

    features: ModelPin | None = Field(
        None,
        description="a vision transformer, such as DINOv2, for the second feature space; "
        "leave it out for handcrafted features, offline",
    )
    judge_epochs: Count = Field(8, description="epochs of the judge CNN over the real train split")
    utility_epochs: Count = Field(10, description="epochs of each classifier of the utility test")
    utility_seeds: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="classifiers per training set, each with its own seed"
    )
    bootstrap: Annotated[int, Field(ge=50, le=100_000)] = Field(
        1000, description="bootstrap resamples for each 95 % interval"
    )
    seed: Seed = Field(0, description="judge and resampling")


class Checks(Section):
    """Limits of the asset checks. They change no result; summary and report show them."""

    max_class_share: Share = Field(0.95, description="largest share of the images with one predicted class")
    max_ece: Share = Field(0.15, description="largest expected calibration error of the labels on test")
    min_purity: Share = Field(0.7, description="smallest share of subset images with a correct caption")
    max_chroma: GreyLevels = Field(
        8.0,
        description="largest mean colour spread of a generated image before it is converted to grey, "
        "in grey levels",
    )
    min_adapter_change: GreyLevels = Field(
        1.0, description="smallest mean change of an image by the LoRA, same prompt and seed, grey levels"
    )
    max_copied: Share = Field(
        0.02,
        description="largest share of near copies of training images among an arm's images",
    )
