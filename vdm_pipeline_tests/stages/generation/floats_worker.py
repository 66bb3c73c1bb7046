"""The worker, which also saves the floats before rounding: one file per image beside the images' folder."""

import sys
from pathlib import Path

import numpy as np

from vdm_pipeline.stages.generation import worker
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.pipeline import Sampler


def save_floats(folder: Path) -> None:
    """Save every image's floats as ``<seed>.npy`` in this process."""
    folder.mkdir(exist_ok=True)
    original = Sampler.sample

    def sample(self, prompt_embeds, seeds):
        images = original(self, prompt_embeds, seeds)
        for seed, image in zip(seeds, images, strict=True):
            np.save(folder / f"{seed}.npy", image)
        return images

    Sampler.sample = sample


if __name__ == "__main__":
    job = Job.model_validate_json(Path(sys.argv[1]).read_text())
    save_floats(job.folder.with_name(f"{job.folder.name}_floats"))
    sys.exit(worker.main(sys.argv[1]))
