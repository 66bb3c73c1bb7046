"""Train the embedded models: ``python -m vdm_pipeline.embedded.training WORK_FOLDER``.

It takes about 90 minutes on two cores and resumes where the last run stopped. At the end it replaces the
weights in the package.
"""

import sys
from pathlib import Path

from vdm_pipeline.embedded.training.clip import train_clip
from vdm_pipeline.embedded.training.export import export_clip, export_lcm, export_sd, write_pins
from vdm_pipeline.embedded.training.lcm import train_lcm
from vdm_pipeline.embedded.training.sd import train_sd
from vdm_pipeline.embedded.training.vae import train_vae
from vdm_pipeline.stages.models.pins import EMBEDDED


def main(work: Path) -> None:
    """Train labeller, autoencoder, base and LCM-LoRA, and export them."""
    clip = train_clip(work)
    vae = train_vae(work)
    unet, text = train_sd(work, vae)
    export_clip(clip, EMBEDDED / "clip")
    export_sd(vae, unet, text, EMBEDDED / "sd")
    export_lcm(train_lcm(work, unet, text), EMBEDDED / "lcm_lora")
    write_pins()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
