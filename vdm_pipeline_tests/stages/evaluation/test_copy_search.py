"""The closest pairs of an arm; `test_evaluate` covers the search over all arms."""

import numpy as np
import pytest

from vdm_pipeline.stages.evaluation.copy_search import closest_pairs
from vdm_pipeline.stages.evaluation.image_names import ImageNames
from vdm_pipeline.stages.evaluation.metrics.manifold import distances
from vdm_pipeline_tests.stages.evaluation.points import neighbours_of, points

NAMES = ImageNames(
    generated=[f"gen_{i}" for i in range(20)],
    train=[f"train_{i}" for i in range(120)],
    held_out=[f"val_{i}" for i in range(120)],
)


def test_closest_pairs_name_their_neighbours_closest_first():
    images = points(20, 3)
    images[7], images[11] = points(120, 1)[30] + 0.01, points(120, 1)[5] + 0.1
    near = neighbours_of(images)
    pairs = closest_pairs(near, "lora", NAMES)
    assert [(pair.file_name, pair.train_image) for pair in pairs[:2]] == [
        ("gen_7", "train_30"),
        ("gen_11", "train_5"),
    ]
    assert pairs[0].held_out_image == f"val_{distances(images[7:8], points(120, 2)).argmin()}"
    assert {pair.arm for pair in pairs} == {"lora"}
    nearness = [pair.nearness for pair in pairs]
    assert nearness == sorted(nearness)
    assert nearness[0] == pytest.approx(0.01 * np.sqrt(8) / near.near_train_distance())
