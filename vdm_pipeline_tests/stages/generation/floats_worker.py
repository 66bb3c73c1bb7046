"""The worker, whose floats before rounding are kept beside the images' folder, one file an image by its seed."""

import sys
from pathlib import Path

import numpy as np

from vdm_pipeline.stages.generation import worker
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.pipeline import Sampler


def keep_floats(folder: Path) -> None:
    """Have every image's floats saved as ``<seed>.npy`` in this process."""
    folder.mkdir(exist_ok=True)
    plain = Sampler.draw

    def draw(self, texts, seeds):
        images = plain(self, texts, seeds)
        for seed, image in zip(seeds, images, strict=True):
            np.save(folder / f"{seed}.npy", image)
        return images

    Sampler.draw = draw


if __name__ == "__main__":
    job = Job.model_validate_json(Path(sys.argv[1]).read_text())
    keep_floats(job.folder.with_name(f"{job.folder.name}_floats"))
    sys.exit(worker.main(sys.argv[1]))
