"""The dataset card of an image folder: ``README.md`` as Hugging Face datasets reads it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vdm_pipeline.settings import Subset

CARD = "README.md"
CONFIGS = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path:
    - images/*.png
    - metadata.jsonl
task_categories:
- text-to-image
---
"""
"""Without these files, `datasets` would take the folder's many ``.txt`` files for a set of texts."""
LABELS = {
    "auto_label": "the automatic label, from a zero-shot classifier",
    "ground_truth": "the dataset's label",
}


def dataset_card(rows: Sequence[Mapping[str, Any]], dataset: str, split: str, subset: Subset) -> str:
    """What the folder with these rows of ``metadata.jsonl`` contains."""
    counts = Counter((row["label"], row["text"]) for row in rows)
    classes = "\n".join(f"- `{label}`: {n} images, “{text}”" for (label, text), n in counts.items())
    return f"""{CONFIGS}
# Captioned images of {dataset}

{len(rows)} images of the {split} split of the archive {dataset}, whose licence applies to them.

{classes}

Columns: `image`; `text`, the caption of the class; `image_id`, the image's number in the archive; `label`,
the class: {LABELS[subset.captions_from]}; `ground_truth`, the dataset's label; `confidence_score`, the
classifier's confidence in the automatic label.
"""
