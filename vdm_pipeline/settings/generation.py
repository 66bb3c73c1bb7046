"""Sections of the generated images: one plan for all arms."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from vdm_pipeline.settings.base import Count, Name, Section, Seed
from vdm_pipeline.settings.model_pin import ModelPin

RESERVED_ARMS = ("real", "baseline", "lora", "overall")
"""Names that the metrics give to other sets of images."""
MAX_LCM_STEPS = 50
"""LCM is distilled to 50 timesteps (Luo et al., 2023)."""

GuidanceScale = Annotated[float, Field(ge=1, le=100)]


class ExtraArm(Section):
    """One more arm of the same plan: another scheduler, or another weight of the LoRA."""

    name: Name = Field(description="folder and row of the arm: lower-case letters, digits, '-' and '_'")
    scheduler: Literal["lcm", "dpm"] = Field("lcm", description="dpm: DPM-Solver++, without the LCM-LoRA")
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] = Field(
        description=f"steps of the scheduler; lcm: at most {MAX_LCM_STEPS}"
    )
    guidance_scale: GuidanceScale = Field(1.0, description="1: no classifier-free guidance, half the work")
    adapter_weight: Annotated[float, Field(ge=0, le=100)] = Field(
        1.0, description="weight of the LoRA; 0: without it"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.name in RESERVED_ARMS:
            raise ValueError(
                f"an extra arm cannot be called '{self.name}': the metrics use that name; choose another"
            )
        if self.scheduler == "lcm" and self.num_inference_steps > MAX_LCM_STEPS:
            raise ValueError(
                f"num_inference_steps = {self.num_inference_steps} is more than LCM's {MAX_LCM_STEPS}; "
                'use fewer, or scheduler = "dpm"'
            )
        return self


class Generation(Section):
    """`generated_images`, `baseline_images` and `extra_images`: one plan for all arms."""

    lcm_lora: ModelPin = Field(description="the LCM-LoRA of the base")
    per_class: Count = Field(description="images of each class and arm")
    num_inference_steps: Annotated[int, Field(ge=1, le=MAX_LCM_STEPS)] = Field(4, description="LCM steps")
    guidance_scale: GuidanceScale = Field(1.0, description="1: no classifier-free guidance, half the work")
    lcm_weight: Annotated[float, Field(gt=0, le=100)] = Field(
        1.0, description="weight of the LCM-LoRA, both arms"
    )
    adapter_weight: Annotated[float, Field(gt=0, le=100)] = Field(
        1.0, description="weight of the LoRA, in its arm only"
    )
    seed: Seed = Field(0, description="image i uses seed + i")
    grey: bool | None = Field(
        None,
        description="true: save grey images; false: keep the three channels; default: as in the archive",
    )
    extra: tuple[ExtraArm, ...] = Field(
        (), description="extra arms, such as another scheduler or a sweep of the LoRA's weight"
    )

    @field_validator("extra")
    @classmethod
    def _one_name_an_arm(cls, extra: tuple[ExtraArm, ...]) -> tuple[ExtraArm, ...]:
        names = [arm.name for arm in extra]
        if len(set(names)) != len(names):
            raise ValueError("names of extra arms must differ")
        return extra
