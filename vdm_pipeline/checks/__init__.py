"""Asset checks: the thin Dagster face of `vdm_pipeline.stages.findings` and `vdm_pipeline.stages.image_findings`."""

from vdm_pipeline.checks.images import IMAGE_CHECKS
from vdm_pipeline.checks.labels import LABEL_CHECKS

CHECKS = [*LABEL_CHECKS, *IMAGE_CHECKS]
