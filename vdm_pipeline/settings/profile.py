"""A profile: every value of a run."""

from typing import Self

from pydantic import Field, model_validator

from vdm_pipeline.settings.base import Section, Text
from vdm_pipeline.settings.data import Classes, Data, Faults
from vdm_pipeline.settings.evaluation import Checks, Evaluation
from vdm_pipeline.settings.execution import Automation, Execution
from vdm_pipeline.settings.generation import Generation
from vdm_pipeline.settings.labelling import Labelling
from vdm_pipeline.settings.model_pin import ModelPin
from vdm_pipeline.settings.training import Subset, Training


class Profile(Section):
    """Every value of a run, one section per stage."""

    name: Text = Field(description="appears on everything that the run writes")
    data: Data
    classes: Classes
    labelling: Labelling
    faults: Faults = Faults()
    subset: Subset
    training: Training
    generation: Generation
    evaluation: Evaluation = Evaluation()
    checks: Checks = Checks()
    automation: Automation = Automation()
    execution: Execution = Execution()

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        groups, classes = len(self.labelling.phrases), len(self.classes.names)
        if groups != classes:
            raise ValueError(
                f"labelling.phrases has {groups} lists for {classes} classes; give one list per class"
            )
        processes, batch_size = self.execution.num_processes, self.training.batch_size
        if processes > batch_size:
            raise ValueError(
                f"execution.num_processes = {processes} is more than training.batch_size = {batch_size}; "
                "lower it, or raise the batch size"
            )
        if self.data.source == "phantom" and classes != 2:
            raise ValueError("phantoms have two classes, normal and pneumonia; classes.names must have two")
        if self.generation.grey and self.data.in_colour:
            raise ValueError(
                f"generation.grey = true, but the images of {self.data.dataset} are in colour, and grey "
                "images cannot be compared with them; remove generation.grey"
            )
        return self

    @property
    def saves_grey(self) -> bool:
        """Whether generated images are saved in grey: as configured, else as the archive's images are."""
        return not self.data.in_colour if self.generation.grey is None else self.generation.grey

    def models(self) -> dict[str, ModelPin]:
        """Every model of the run, by its role."""
        pins = {
            "labeller": self.labelling.model,
            "labeller_text": self.labelling.text_model,
            "base": self.training.base,
            "lcm_lora": self.generation.lcm_lora,
            "features": self.evaluation.features,
        }
        return {role: pin for role, pin in pins.items() if pin}
