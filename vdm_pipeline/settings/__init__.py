"""What is asked for: a profile, one frozen section a stage. Everything that changes a result stands here."""

from vdm_pipeline.settings.base import ModelPin, Section
from vdm_pipeline.settings.profile import DEFAULT_PROFILE, PROFILES, Profile, fingerprint, load_profile
from vdm_pipeline.settings.running import Automation, Checks, Cluster, Execution
from vdm_pipeline.settings.sections import (
    Classes,
    Data,
    Evaluation,
    ExtraArm,
    Faults,
    Generation,
    Labelling,
    Subset,
    Training,
)

__all__ = [
    "DEFAULT_PROFILE",
    "PROFILES",
    "Automation",
    "Checks",
    "Classes",
    "Cluster",
    "Data",
    "Evaluation",
    "Execution",
    "ExtraArm",
    "Faults",
    "Generation",
    "Labelling",
    "ModelPin",
    "Profile",
    "Section",
    "Subset",
    "Training",
    "fingerprint",
    "load_profile",
]
