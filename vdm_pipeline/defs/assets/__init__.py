"""Every asset of the pipeline, as a function of the profile."""

from vdm_pipeline.defs.assets.data import raw_npz
from vdm_pipeline.defs.assets.evaluation import image_metrics, pipeline_summary
from vdm_pipeline.defs.assets.generation import baseline_images, extra_images, generated_images
from vdm_pipeline.defs.assets.labelling import image_embeddings, label_metrics, labeled_dataset
from vdm_pipeline.defs.assets.quality import data_faults, label_noise
from vdm_pipeline.defs.assets.report import report
from vdm_pipeline.defs.assets.subset import lora_subset
from vdm_pipeline.defs.assets.training import lora_weights

ASSETS = [
    raw_npz,
    image_embeddings,
    labeled_dataset,
    label_metrics,
    data_faults,
    label_noise,
    lora_subset,
    lora_weights,
    generated_images,
    baseline_images,
    extra_images,
    image_metrics,
    pipeline_summary,
    report,
]
