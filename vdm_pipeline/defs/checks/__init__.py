"""Asset checks: the thin Dagster face of `vdm_pipeline.stages.findings` and `vdm_pipeline.stages.image_findings`."""

from vdm_pipeline.defs.checks.check_factory import checks_of
from vdm_pipeline.defs.checks.images import IMAGE_CHECKS
from vdm_pipeline.defs.checks.labels import LABEL_CHECKS

EACH = [*LABEL_CHECKS, *IMAGE_CHECKS]
CHECKS = [checks_of(asset, [check for check in EACH if check.asset == asset]) for asset in dict.fromkeys(check.asset for check in EACH)]
