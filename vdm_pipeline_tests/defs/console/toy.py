"""Definitions of three small assets. ``$TOY`` is what happens in `weights`."""

import os
import time
from collections.abc import Iterator

import dagster as dg

from vdm_pipeline.defs.console.executor import shown
from vdm_pipeline.defs.console.log_level import set_up_console
from vdm_pipeline.errors import ArchiveError

SENTENCE = "weights.npz is empty; delete it, and run again."
PURE = "purity is 0.99"


def materialized(*, skipped: bool, **metadata: object) -> dg.MaterializeResult:
    """A result with the metadata of `vdm_pipeline.defs.materialize`."""
    values = {"result": "", "seconds": 12.3, "skipped": skipped} | metadata
    return dg.MaterializeResult(metadata=values)


@dg.asset
def archive() -> dg.MaterializeResult:
    """Up to date."""
    return materialized(skipped=True)


@dg.asset(deps=[archive])
def weights(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Does what ``$TOY`` says, after it has reported its progress."""
    mode = os.environ["TOY"]
    context.log.info("weights: computing (not materialized yet)")
    for done in range(1, 5):
        context.log.info(f"step {done}/4: 损失 0.1")
    print("a library prints")
    context.log.warning("an image is \x1b[31mred")
    if mode == "sentence":
        raise dg.Failure(SENTENCE, allow_retries=False)
    if mode == "bug":
        raise ValueError("latents are not contiguous")
    if mode == "killed":
        os.kill(os.getpid(), 9)
    if mode == "wait":
        time.sleep(60)
    if mode == "no result":
        return dg.MaterializeResult()
    return materialized(skipped=mode == "nothing", result="400 steps · loss 0.085")


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec("is_pure", asset=weights),
        dg.AssetCheckSpec("is_large", asset=weights),
        dg.AssetCheckSpec("is_sound", asset=weights, blocking=True),
    ],
    name="weights_checks",
)
def weights_checks() -> Iterator[dg.AssetCheckResult]:
    """One warns; the others pass unless ``$TOY`` says ``impure`` or ``unsound``."""
    mode, warn = os.environ["TOY"], dg.AssetCheckSeverity.WARN
    yield dg.AssetCheckResult(
        passed="impure" not in mode, asset_key="weights", check_name="is_pure", description=PURE
    )
    yield dg.AssetCheckResult(
        passed=False,
        asset_key="weights",
        check_name="is_large",
        description="2 of 7 are small",
        severity=warn,
    )
    sound = "unsound" not in mode
    yield dg.AssetCheckResult(
        passed=sound, asset_key="weights", check_name="is_sound", description=f"{int(not sound)} are broken"
    )


def _unlocked() -> str:
    if os.environ["TOY"] == "resource":
        raise ArchiveError("results has no locks; set VDM_ROOT.")
    return "project"


@dg.asset(deps=[weights])
def report(project: dg.ResourceParam[str]) -> dg.MaterializeResult:
    """The last asset."""
    nothing = os.environ["TOY"] == "nothing"
    folder = dg.MetadataValue.path("/project/results/report")
    return materialized(skipped=nothing, result="one page", folder=folder, seconds=0.04)


EXECUTORS = {"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}

set_up_console()
defs = dg.Definitions(
    assets=[archive, weights, report],
    asset_checks=[weights_checks],
    resources={"project": dg.ResourceDefinition(lambda context: _unlocked())},
    executor=shown(EXECUTORS[os.environ["TOY_EXECUTOR"]]),
)

if os.environ["TOY"] == "no executor":
    no_executor = dg.ExecutorDefinition("none", executor_creation_fn=lambda context: 1 / 0)
    defs = dg.Definitions([archive], executor=shown(no_executor))
