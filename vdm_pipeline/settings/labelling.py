"""Section of zero-shot labelling."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vdm_pipeline.settings.base import Section, Share, Text
from vdm_pipeline.settings.model_pin import ModelPin


class Labelling(Section):
    """`image_embeddings` and `labeled_dataset`: zero-shot labels by an open_clip model, calibrated on val."""

    model: ModelPin = Field(description="the open_clip model")
    text_model: ModelPin | None = Field(
        None,
        description="architecture of the text tower, if the model's configuration names another repository",
    )
    templates: tuple[Text, ...] = Field(
        min_length=1, description="prompts, each with {phrase}; their embeddings are averaged"
    )
    phrases: tuple[tuple[Text, ...], ...] = Field(
        description="one list of phrases per class, in label order; the position decides, never the words"
    )
    calibration: Literal["none", "platt", "prior"] = Field(
        "none",
        description="platt: temperature and bias fitted to the true labels of val; prior: a bias fitted to "
        "`prior`, without labels; none: the model's own probabilities",
    )
    prior: tuple[Share, ...] | None = Field(
        None, description="for calibration = prior: expected fraction of each class, summing to 1"
    )
    decision: Literal["argmax", "balanced_accuracy", "f1", "sensitivity"] = Field(
        "argmax",
        description="decision threshold: argmax, or the best one on val for this metric; "
        "f1 and sensitivity refer to class 1",
    )
    sensitivity: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="for decision = sensitivity: recall of class 1 to reach"
    )

    @property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """Every template with every phrase, one list per class."""
        return tuple(
            tuple(template.replace("{phrase}", phrase) for template in self.templates for phrase in phrases)
            for phrases in self.phrases
        )

    @model_validator(mode="after")
    def _prompts_differ(self) -> Self:
        if not all("{phrase}" in template for template in self.templates):
            raise ValueError("every one of labelling.templates must contain {phrase}")
        if not all(self.phrases):
            raise ValueError("every class needs at least one phrase")
        prompts = [prompt for group in self.prompts for prompt in group]
        if len(set(prompts)) != len(prompts):
            raise ValueError("a prompt appears twice; give each prompt to one class only")
        return self

    @model_validator(mode="after")
    def _calibration_has_what_it_needs(self) -> Self:
        if self.decision != "argmax" and self.calibration != "platt":
            raise ValueError(
                f'decision = "{self.decision}" needs calibrated probabilities; set calibration = "platt"'
            )
        if self.decision in ("f1", "sensitivity") and len(self.phrases) != 2:
            raise ValueError(
                f'decision = "{self.decision}" is for two classes; use "balanced_accuracy" or "argmax"'
            )
        if (self.calibration == "prior") != (self.prior is not None):
            raise ValueError('calibration = "prior" and prior = [...] go together; set both or neither')
        if self.prior is not None and not self._prior_fits(self.prior):
            raise ValueError("prior must have one fraction above 0 per class, and they must sum to 1")
        return self

    def _prior_fits(self, prior: tuple[float, ...]) -> bool:
        return len(prior) == len(self.phrases) and abs(sum(prior) - 1) <= 1e-6 and all(prior)
