"""Every asset check: thin Dagster wrappers of the ``check_outcomes`` modules of the stages."""

from vdm_pipeline.defs.checks.check_factory import build_asset_checks
from vdm_pipeline.defs.checks.images import IMAGE_CHECKS
from vdm_pipeline.defs.checks.labels import LABEL_CHECKS
from vdm_pipeline.defs.checks.subset import SUBSET_CHECKS

CHECKS = [
    *LABEL_CHECKS,
    *SUBSET_CHECKS,
    *IMAGE_CHECKS,
]
ASSET_CHECKS = [
    build_asset_checks(asset, [check for check in CHECKS if check.asset == asset])
    for asset in dict.fromkeys(check.asset for check in CHECKS)
]
