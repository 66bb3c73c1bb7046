"""What to generate (samples, shared by all arms) and how (arms). Loads no model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.settings import Classes, ExtraArm, Generation, Profile
from vdm_pipeline.stages.models.pins import pin_name

PLANNED_KEYS = ("file_name", "label", "prompt", "seed")
"""Keys of an image's record that its `SampleSpec` determines."""


@dataclass(frozen=True)
class SampleSpec:
    """One image to generate; the same in every arm."""

    index: int
    label: str
    prompt: str
    seed: int

    @property
    def file_name(self) -> str:
        """``gen_000.png`` and so on."""
        return f"gen_{self.index:03d}.png"


@dataclass(frozen=True)
class Adapter:
    """A LoRA folder or file, and the weight it is fused with."""

    name: str
    path: Path
    weight: float

    @property
    def file(self) -> Path:
        """The safetensors file."""
        return self.path / LORA_WEIGHTS if self.path.is_dir() else self.path


class Arm(BaseModel):
    """How the samples are generated.

    ``size`` is the side in pixels. ``base_model`` is the id and pin for the images' records. Adapters are
    fused in their order, the trained LoRA first: DoRA rescales the current weights, which must still be
    the base model's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Path
    base_model: str
    adapters: tuple[Adapter, ...]
    adapter_sha256: dict[str, str]
    scheduler: Literal["lcm", "dpm"]
    num_inference_steps: int
    guidance_scale: float
    size: int
    grey: bool

    def record(self, sample: SampleSpec) -> dict[str, Any]:
        """Provenance of the sample's image."""
        return {
            "file_name": sample.file_name,
            "label": sample.label,
            "prompt": sample.prompt,
            "seed": sample.seed,
            "scheduler": self.scheduler,
            "steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "size": self.size,
            "grey": self.grey,
            "adapters": {adapter.name: adapter.weight for adapter in self.adapters},
            "base_model": self.base_model,
            "lora_sha256": self.adapter_sha256.get("lora"),
            "lcm_sha256": self.adapter_sha256.get("lcm"),
        }


def plan(classes: Classes, generation: Generation) -> list[SampleSpec]:
    """``per_class`` samples of each class, alternating between classes; sample i has the seed ``seed + i``.

    Alternating means that a larger ``per_class`` only adds samples at the end, so existing images stay valid.
    """
    labels = [i % len(classes.names) for i in range(len(classes.names) * generation.per_class)]
    return [
        SampleSpec(i, classes.names[label], classes.caption(label), generation.seed + i)
        for i, label in enumerate(labels)
    ]


def main_arm(profile: Profile, base: Path, lcm: Path, lora: Path | None) -> Arm:
    """The arm with LCM-LoRA and the trained LoRA; without ``lora``, the baseline."""
    generation = profile.generation
    adapters = [Adapter("lora", lora, generation.adapter_weight)] if lora else []
    adapters += [Adapter("lcm", lcm, generation.lcm_weight)]
    return _arm(profile, base, adapters, "lcm", generation.num_inference_steps, generation.guidance_scale)


def extra_arm(profile: Profile, extra: ExtraArm, base: Path, lcm: Path, lora: Path) -> Arm:
    """The arm that ``extra`` configures: ``dpm`` omits the LCM-LoRA, a weight of 0 the trained LoRA."""
    adapters = [Adapter("lora", lora, extra.adapter_weight)] if extra.adapter_weight else []
    if extra.scheduler == "lcm":
        adapters.append(Adapter("lcm", lcm, profile.generation.lcm_weight))
    return _arm(profile, base, adapters, extra.scheduler, extra.num_inference_steps, extra.guidance_scale)


def _arm(
    profile: Profile,
    base: Path,
    adapters: list[Adapter],
    scheduler: Literal["lcm", "dpm"],
    num_inference_steps: int,
    guidance_scale: float,
) -> Arm:
    return Arm(
        base=base,
        base_model=pin_name(profile.training.base),
        adapters=tuple(adapters),
        adapter_sha256={adapter.name: file_sha256(adapter.file) for adapter in adapters},
        scheduler=scheduler,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        size=profile.training.resolution,
        grey=profile.saves_grey,
    )
