"""Seconds for the metrics of two arms of 512 images against 624 real ones: ``python -m vdm_pipeline_tests.benchmarks.evaluation``.

The images are rendered phantoms; time does not depend on what they show. The judge and the classifiers of the utility test,
which are trainings, are timed by themselves.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.evaluation.comparison import compare
from vdm_pipeline.stages.evaluation.copy_search import ImageNames, search_copies
from vdm_pipeline.stages.evaluation.features import Space, handcrafted
from vdm_pipeline.stages.evaluation.judge import train_judge
from vdm_pipeline.stages.evaluation.measured_images import ImageMeasurer
from vdm_pipeline.stages.evaluation.metrics.frechet import frechet_distance
from vdm_pipeline.stages.evaluation.pairs import paired_differences
from vdm_pipeline.stages.evaluation.utility import training_sets, utility
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
from vdm_pipeline.stages.models.pins import EMBEDDED

ARM, REAL, SUBSET, SIZE = 512, 624, 800, 64


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add what passes to ``seconds``."""
    begun = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0) + time.perf_counter() - begun


def films(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Phantoms and their labels, the classes by turns."""
    labels = np.arange(count) % 2
    return render(seed, np.arange(count), labels == 1, SIZE), labels


def main() -> None:
    """Print the seconds of each part, and of FID by its two formulas."""
    profile, device, seconds = load_profile("demo"), torch.device("cpu"), {}
    sets = {
        name: films(n, i)
        for i, (name, n) in enumerate(
            {"train": SUBSET, "val": REAL, "real": ARM, "baseline": ARM, "lora": ARM}.items()
        )
    }
    labeller, evaluation, names = (
        ZeroShot(EMBEDDED / "clip", device),
        profile.evaluation,
        profile.classes.names,
    )
    with timed(seconds, "(training the judge)"):
        judge = train_judge(*sets["train"], classes=2, epochs=evaluation.judge_epochs, seed=0, device=device)
    with timed(seconds, "features"):
        spaces = {"labeller": Space("", labeller.embed), "independent": handcrafted(sets["train"][0], 0)}
        samples = {name: ImageMeasurer(judge, spaces).measure(*images) for name, images in sets.items()}
    for name in ("real", "baseline", "lora"):
        with timed(seconds, "comparisons"):
            compare(samples[name], samples["val"], names, evaluation)
    with timed(seconds, "pairs"):
        paired_differences(samples["baseline"], samples["lora"], samples["val"], names, evaluation)
    with timed(seconds, "memorisation"):
        arms = {name: samples[name] for name in ("real", "baseline", "lora")}
        image_names = ImageNames([""] * ARM, [""] * SUBSET, [""] * REAL)
        search_copies(arms, samples["train"], samples["val"], image_names, spaces, evaluation)
    total = sum(value for name, value in seconds.items() if not name.startswith("("))
    with timed(seconds, "(utility)"):
        utility(
            training_sets(sets["train"], {name: sets[name] for name in ("baseline", "lora")}),
            sets["val"],
            names,
            evaluation,
            device,
        )
    for name, value in seconds.items():
        print(f"{name:24}{value:7.1f} s")
    print(f"all metrics, 2 x {ARM} images against {REAL} real: {total:.1f} s")
    _frechet()


def _frechet() -> None:
    """FID of 2,048 features: the nuclear norm against the root of the product of covariances."""
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(ARM, 2048)), rng.normal(size=(REAL, 2048))
    begun = time.perf_counter()
    ours = frechet_distance(x, y)
    middle = time.perf_counter()
    a, b = np.cov(x.T), np.cov(y.T)
    theirs = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    ends = time.perf_counter()
    print(
        f"FID, {ARM} and {REAL} x 2048: {middle - begun:.2f} s, by the root {ends - middle:.2f} s; {ours:.3f} and {theirs:.3f}"
    )


if __name__ == "__main__":
    main()
