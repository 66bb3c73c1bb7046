"""Peak memory of labelling by number of images: ``python -m vdm_pipeline_tests.benchmarks.label_memory``.

Each number runs in its own process, from the archive on disk to the table of labels on disk, with the
embedded model.
"""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from vdm_pipeline.io.memory import peak_resident_mb
from vdm_pipeline.io.tables import write_csv
from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.labelling.embeddings import embed_archive, read_embeddings
from vdm_pipeline.stages.labelling.labels import label_archive
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
from vdm_pipeline.stages.models.pins import resolve_model
from vdm_pipeline_tests.benchmarks.labelling import noise

SIZE = 28


def label(n: int, folder: Path) -> None:
    """Label an archive of ``n`` images in ``folder`` and print the peak memory of the process in MB."""
    archive, labelling = noise(n, SIZE, folder), load_profile("demo").labelling
    labeller = ZeroShot(resolve_model(labelling.model), torch.device("cpu"))
    embed_archive(archive, labeller.embed, folder / "embeddings", lambda done, total: None)
    text = labeller.encode_prompts(labelling.prompts)
    embeddings = partial(read_embeddings, folder / "embeddings")
    table, _ = label_archive(archive, embeddings, text, labeller.scale, labelling, ("a", "b"))
    write_csv(folder / "labels.csv", table)
    print(peak_resident_mb())


def main() -> None:
    """Print the peaks and their ratio."""
    peaks = {}
    for n in (10_000, 100_000):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", __spec__.name, str(n), folder]
            peaks[n] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{n:7} images of {SIZE} px: peak {peaks[n]:.0f} MB", flush=True)
    print(f"ratio {peaks[100_000] / peaks[10_000]:.3f}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        label(int(sys.argv[1]), Path(sys.argv[2]))
    else:
        main()
