"""The settings of a run: a profile with one frozen section per stage.

Every value that a user may change is here; fixed ones are constants in the stages.
"""

from vdm_pipeline.settings.base import Section
from vdm_pipeline.settings.data import Classes, Data, Faults
from vdm_pipeline.settings.evaluation import Checks, Evaluation
from vdm_pipeline.settings.execution import Automation, Cluster, Execution
from vdm_pipeline.settings.fingerprint import fingerprint
from vdm_pipeline.settings.generation import ExtraArm, Generation
from vdm_pipeline.settings.labelling import Labelling
from vdm_pipeline.settings.load import DEFAULT_PROFILE, PROFILES, load_profile
from vdm_pipeline.settings.model_pin import EMBEDDED, ModelPin
from vdm_pipeline.settings.profile import Profile
from vdm_pipeline.settings.training import Subset, Training

__all__ = [
    "DEFAULT_PROFILE",
    "EMBEDDED",
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
