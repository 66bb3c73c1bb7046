"""Titles of arms, feature spaces, groups and training sets, shared by tables, plots and verdicts."""

from vdm_pipeline.stages.evaluation.spaces import INDEPENDENT, LABELLER

OVERALL = "overall"
"""The group that holds all classes."""
SPACE_TITLES = {LABELLER: "labeller space", INDEPENDENT: "independent space"}
ARM_TITLES = {"real": "real (control)", "baseline": "baseline", "lora": "LoRA"}
"""Extra arms follow these, under their own names."""
TRAINING_SET_TITLES = {
    "real": "real",
    "real_twice": "real twice",
    "real_and_synthetic": "real + LoRA",
    "synthetic": "LoRA only",
    "synthetic_baseline": "baseline only",
}
"""What the classifiers of the utility test are trained on."""


def group_title(group: str) -> str:
    """The title of a group of images: all of them, or one class."""
    return "All classes" if group == OVERALL else group
