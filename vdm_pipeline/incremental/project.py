"""One profile in one project folder: fingerprints, paths of upstream assets, and the checks that block them.

A manifest is *intact* if the files have its hashes, and *current* if the asset and all its ancestors have the
current code versions and inputs. An asset is *up to date* if it is both, and *blocked* if a blocking check
failed or has not run.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from vdm_pipeline.errors import PipelineError, StaleAssetError
from vdm_pipeline.graph import (
    IGNORES_BLOCKING_CHECKS,
    STAGES,
    CheckSpec,
    checks_of,
    code_version,
    how_to_materialize,
    lineage,
    outputs,
    parts,
    parts_read,
)
from vdm_pipeline.incremental.check_results import CheckResult
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.settings import Profile, fingerprint

FORCE_TAG = "vdm/force"


@dataclass(frozen=True)
class AssetHandle:
    """Where an upstream asset's outputs are. Nothing is read until a stage opens a path."""

    asset: str
    paths: Mapping[str, Path]
    versions: Mapping[str, str]
    """Data versions by part."""

    def __getitem__(self, role: str) -> Path:
        """Path of one output."""
        return self.paths[role]

    def restricted(self, names: Sequence[str]) -> "AssetHandle":
        """The handle with the outputs of these parts only."""
        roles = {parts(self.asset)[name].output for name in names}
        return AssetHandle(
            self.asset,
            {role: path for role, path in self.paths.items() if role in roles},
            {name: self.versions[name] for name in names},
        )


Upstream = Mapping[str, AssetHandle]
"""Handles by asset."""


class BlockReason(Enum):
    """Why a blocking check keeps its asset from being read."""

    NOT_RUN = "has not run on the current data"
    FAILED = "failed"


@dataclass(frozen=True)
class BlockingFailure:
    """A blocking check that did not pass; ``sentence`` is what it found, empty if it has not run."""

    check: str
    reason: BlockReason
    sentence: str = ""

    def message(self, asset: str) -> str:
        """Why nothing reads the asset, and what to do."""
        if self.reason is BlockReason.NOT_RUN:
            return f"Check {self.check} has not run on the current {asset}; {how_to_materialize(asset)}"
        return (
            f"Check {self.check} of {asset} failed: {self.sentence}. "
            f"Fix the cause, then {how_to_materialize(asset)}"
        )


@dataclass(frozen=True)
class Project:
    """One profile in one project folder."""

    profile: Profile
    store: Store
    skipped: list[str] = field(default_factory=list, compare=False)
    """Assets that this process skipped because they are up to date; logged at the end of the run."""

    def forced(self, asset: str = "", tags: Mapping[str, str] | None = None) -> bool:
        """Whether ``$VDM_FORCE`` or the run tag ``vdm/force`` names the asset, or ``all``.

        Names are separated by commas or blanks. Raises `PipelineError` for an unknown asset.
        """
        requests = {"VDM_FORCE": os.environ.get("VDM_FORCE", ""), FORCE_TAG: (tags or {}).get(FORCE_TAG, "")}
        forced: set[str] = set()
        for source, text in requests.items():
            names = set(re.split(r"[,\s]+", text)) - {""}
            unknown = names - {"all", *STAGES}
            if unknown:
                raise PipelineError(
                    f"{source} names {', '.join(sorted(unknown))}, which is not an asset; "
                    f"use all, or some of {', '.join(STAGES)}."
                )
            forced |= names
        return "all" in forced or asset in forced

    def paths(self, asset: str) -> dict[str, Path]:
        """Absolute paths of an asset's outputs, by role."""
        return {role: self.store.path(name) for role, name in outputs(asset, self.profile).items()}

    def input_versions(self, asset: str) -> dict[str, str]:
        """Current data versions of what the asset reads, by ``<asset>.<part>``.

        Raises `PipelineError` for an input that is not materialized.
        """
        manifests = {name: self._manifest(name) for name in STAGES[asset].inputs}
        return {
            f"{name}.{part}": manifest.versions.get(part, "")
            for name, manifest in manifests.items()
            for part in parts_read(asset, name)
        }

    def fingerprint(self, asset: str) -> str:
        """Hash of the code version and of the data versions of the inputs."""
        return fingerprint(code_version(asset, self.profile), self.input_versions(asset))

    def upstream(self, asset: str) -> Upstream:
        """Handles on the outputs that the asset reads.

        Raises `PipelineError`, with the command that fixes it, for an input that is not materialized, not
        intact, stale, or blocked by a check (assets in `IGNORES_BLOCKING_CHECKS` may read a blocked one).
        """
        handles = {
            name: self.asset_handle(name).restricted(parts_read(asset, name)) for name in STAGES[asset].inputs
        }
        if asset not in IGNORES_BLOCKING_CHECKS:
            for name in handles:
                self._raise_if_blocked(name)
        return handles

    def _raise_if_blocked(self, asset: str) -> None:
        for failure in self.blocking_failures(asset):
            raise PipelineError(failure.message(asset))

    def asset_handle(self, asset: str) -> AssetHandle:
        """Handle of an up-to-date asset; raises `PipelineError` if it is missing, changed or stale."""
        manifest, paths = self._manifest(asset), self.paths(asset)
        missing = next((path for path in paths.values() if not path.exists()), None)
        if missing is not None:
            raise PipelineError(f"{missing}, an output of {asset}, is missing; {how_to_materialize(asset)}")
        if not self.store.is_intact(manifest):
            raise PipelineError(
                f"Files of asset {asset} changed after it was materialized; {how_to_materialize(asset)}"
            )
        if not self._is_current(asset):
            raise StaleAssetError(
                f"Asset {asset} is stale: its settings or inputs changed; {how_to_materialize(asset)}. "
                "If the UI shows it as up to date, press 'Reload definitions' there."
            )
        return AssetHandle(asset, paths, manifest.versions)

    def check_fingerprint(self, check: CheckSpec) -> str:
        """Hash of all that decides a check's result: its version, its settings, and the data it reads."""
        manifests = {name: self.store.manifest(name) for name in (check.asset, *check.reads)}
        versions = {name: manifest.data_version if manifest else "" for name, manifest in manifests.items()}
        return fingerprint(check.version, check.name, versions, *check.fingerprinted_settings(self.profile))

    def check_result(self, check: CheckSpec) -> CheckResult | None:
        """The check's result for the current data and settings, or None if it has not run on them."""
        result = self.store.check_results(check.asset).get(check.name)
        return result if result and result.fingerprint == self.check_fingerprint(check) else None

    def blocking_failures(self, asset: str) -> list[BlockingFailure]:
        """The blocking checks of an up-to-date asset that failed or have not run."""
        failures = []
        for check in checks_of(asset):
            if not check.blocking:
                continue
            result = self.check_result(check)
            if result is None:
                failures.append(BlockingFailure(check.name, BlockReason.NOT_RUN))
            elif result.blocks:
                failures.append(BlockingFailure(check.name, BlockReason.FAILED, result.sentence))
        return failures

    def _manifest(self, asset: str) -> Manifest:
        manifest = self.store.manifest(asset)
        if manifest is None:
            raise PipelineError(f"Asset {asset} is not materialized; {how_to_materialize(asset)}")
        return manifest

    def _is_current(self, asset: str) -> bool:
        """Whether the asset and all its ancestors were computed under this profile from current inputs."""
        manifests = {name: self.store.manifest(name) for name in lineage(asset)}
        return all(
            manifest is not None and manifest.code_version == code_version(name, self.profile)
            for name, manifest in manifests.items()
        ) and all(
            manifest.inputs == self.input_versions(name) for name, manifest in manifests.items() if manifest
        )
