"""Time of the metrics of two arms of 512 images: ``python -m vdm_pipeline_tests.benchmarks.evaluation``.

The reference is 624 real images. All images are rendered phantoms; the time does not depend on what they
show. The judge and the classifiers of the utility test, which are trained, are timed separately.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.evaluation.comparison import compare
from vdm_pipeline.stages.evaluation.copy_search import search_copies
from vdm_pipeline.stages.evaluation.features import Space, handcrafted
from vdm_pipeline.stages.evaluation.image_names import ImageNames
from vdm_pipeline.stages.evaluation.judge import train_judge
from vdm_pipeline.stages.evaluation.measured_images import ImageMeasurer
from vdm_pipeline.stages.evaluation.metrics.frechet import frechet_distance
from vdm_pipeline.stages.evaluation.pairs import paired_differences
from vdm_pipeline.stages.evaluation.spaces import INDEPENDENT, LABELLER
from vdm_pipeline.stages.evaluation.utility import training_sets, utility
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
from vdm_pipeline.stages.models.pins import EMBEDDED

ARM, REAL, SUBSET, SIZE = 512, 624, 800, 64


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time of the block to ``seconds``."""
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0) + time.perf_counter() - start


def phantoms(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Phantoms of alternating classes, and their labels."""
    labels = np.arange(count) % 2
    return render(seed, np.arange(count), labels == 1, SIZE), labels


def time_all_metrics() -> dict[str, float]:
    """Seconds of each part; parts in brackets are trainings."""
    profile, device = load_profile("demo"), torch.device("cpu")
    evaluation, names = profile.evaluation, profile.classes.names
    counts = {"train": SUBSET, "val": REAL, "real": ARM, "baseline": ARM, "lora": ARM}
    sets = {name: phantoms(count, seed) for seed, (name, count) in enumerate(counts.items())}
    labeller = ZeroShot(EMBEDDED / "clip", device)
    seconds: dict[str, float] = {}
    with timed(seconds, "(training the judge)"):
        judge = train_judge(*sets["train"], classes=2, epochs=evaluation.judge_epochs, seed=0, device=device)
    with timed(seconds, "features"):
        spaces = {LABELLER: Space("", labeller.embed), INDEPENDENT: handcrafted(sets["train"][0], 0)}
        measured = {name: ImageMeasurer(judge, spaces).measure(*images) for name, images in sets.items()}
    arms = {name: measured[name] for name in ("real", "baseline", "lora")}
    with timed(seconds, "comparisons"):
        for images in arms.values():
            compare(images, measured["val"], names, evaluation)
    with timed(seconds, "pairs"):
        paired_differences(measured["baseline"], measured["lora"], measured["val"], names, evaluation)
    with timed(seconds, "memorisation"):
        image_names = ImageNames([""] * ARM, [""] * SUBSET, [""] * REAL)
        search_copies(arms, measured["train"], measured["val"], image_names, spaces, evaluation)
    with timed(seconds, "(utility)"):
        trained_on = training_sets(sets["train"], {name: sets[name] for name in ("baseline", "lora")})
        utility(trained_on, sets["val"], names, evaluation, device)
    return seconds


def compare_frechet() -> None:
    """FID of 2,048 features: the nuclear norm against the square root of the product of covariances."""
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(ARM, 2048)), rng.normal(size=(REAL, 2048))
    seconds: dict[str, float] = {}
    with timed(seconds, "ours"):
        ours = frechet_distance(x, y)
    with timed(seconds, "root"):
        a, b = np.cov(x.T), np.cov(y.T)
        by_root = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    print(f"FID, {ARM} and {REAL} x 2048: {seconds['ours']:.2f} s, value {ours:.3f}")
    print(f"FID by the square root: {seconds['root']:.2f} s, value {by_root:.3f}")


def main() -> None:
    """Print the seconds of each part, and of FID by its two formulas."""
    seconds = time_all_metrics()
    for name, value in seconds.items():
        print(f"{name:24}{value:7.1f} s")
    total = sum(value for name, value in seconds.items() if not name.startswith("("))
    print(f"all metrics, 2 x {ARM} images against {REAL} real: {total:.1f} s")
    compare_frechet()


if __name__ == "__main__":
    main()
