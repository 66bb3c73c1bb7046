"""Fixtures of the generation's tests."""

import pytest

from vdm_pipeline.stages.generation import image_records


@pytest.fixture
def written(monkeypatch) -> list[str]:
    """Names of the images that are written from now on."""
    names: list[str] = []
    original = image_records.write_png

    def write_png(path, *args, **options):
        names.append(path.name)
        original(path, *args, **options)

    monkeypatch.setattr(image_records, "write_png", write_png)
    return names
