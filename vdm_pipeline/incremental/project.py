"""What every asset is given: the profile, the project folder, and handles on what stands upstream."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vdm_pipeline.errors import OutdatedError, PipelineError
from vdm_pipeline.graph import IGNORES_BLOCKING_CHECKS, STAGES, CheckSpec, checks_of, code_version, lineage, materialize_command, outputs
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.settings import Profile, fingerprint

FORCE_TAG = "vdm/force"


@dataclass(frozen=True)
class AssetHandle:
    """A handle on an upstream asset: where its outputs stand. Nothing is read until a stage opens a path."""

    asset: str
    paths: Mapping[str, Path]
    data_version: str

    def __getitem__(self, role: str) -> Path:
        """Path of one output."""
        return self.paths[role]


Inputs = Mapping[str, AssetHandle]
"""Handles by asset."""


@dataclass(frozen=True)
class Project:
    """One profile in one project folder."""

    profile: Profile
    store: Store
    reused: list[str] = field(default_factory=list, compare=False)
    """Assets that were re-used since the run began, by this process."""

    def forced(self, asset: str = "", tags: Mapping[str, str] | None = None) -> bool:
        """Whether ``$VDM_FORCE`` or the run's tag ``vdm/force`` (names with commas or blanks, or ``all``) asks to make the asset again.

        Raises `PipelineError` for a name that is no asset's.
        """
        asked = {"VDM_FORCE": os.environ.get("VDM_FORCE", ""), FORCE_TAG: (tags or {}).get(FORCE_TAG, "")}
        stale_assets: set[str] = set()
        for door, names in asked.items():
            named = set(re.split(r"[,\s]+", names)) - {""}
            unknown = named - {"all", *STAGES}
            if unknown:
                raise PipelineError(
                    f"{door} names {', '.join(sorted(unknown))}, which is no asset; name all, or some of {', '.join(STAGES)}."
                )
            stale_assets |= named
        return "all" in stale_assets or asset in stale_assets

    def paths(self, asset: str) -> dict[str, Path]:
        """Absolute paths of an asset's outputs, by role."""
        return {role: self.store.path(name) for role, name in outputs(asset, self.profile).items()}

    def input_versions(self, asset: str) -> dict[str, str]:
        """Data versions of what the asset is made from, as they stand now. Raises `PipelineError` if one was never made."""
        return {name: self._record(name).data_version for name in STAGES[asset].inputs}

    def fingerprint(self, asset: str) -> str:
        """Of all that decides the asset: code, settings and model pins, and the content of its inputs."""
        return fingerprint(code_version(asset, self.profile), self.input_versions(asset))

    def inputs(self, asset: str) -> Inputs:
        """Handles on all that the asset is made from.

        Raises `PipelineError`, a sentence with the command that mends it, for an input that was never made, is not as it was
        made, was not made under this profile from what stands now, or that a blocking check stopped or did not look at
        (measures may look at what was stopped).
        """
        found = {name: self.asset_handle(name) for name in STAGES[asset].inputs}
        for name in found if asset not in IGNORES_BLOCKING_CHECKS else ():
            for check, fault in self.blocking_failures(name).items():
                if fault is None:
                    raise PipelineError(f"Check {check} has not looked at {name} as it stands; run: {materialize_command(name)}")
                raise PipelineError(
                    f"Check {check} stopped {name}: {fault}. Mend that, or look at its figures, and run: {materialize_command(name)}"
                )
        return found

    def asset_handle(self, asset: str) -> AssetHandle:
        """The handle of an asset that stands; raises `PipelineError` like `inputs`, but not for what a check stopped."""
        manifest, paths = self._record(asset), self.paths(asset)
        gone = next((path for path in paths.values() if not path.exists()), None)
        if gone is not None:
            raise PipelineError(f"{gone}, made by asset {asset}, is gone; run: {materialize_command(asset)}")
        if not self.store.is_intact(manifest):
            raise PipelineError(f"Files of asset {asset} were changed since they were made; run: {materialize_command(asset)}")
        if not self._is_current(asset):
            raise OutdatedError(f"Asset {asset} was made with other settings or from other inputs; run: {materialize_command(asset)}")
        return AssetHandle(asset, paths, manifest.data_version)

    def check_fingerprint(self, check: CheckSpec) -> str:
        """Of all that decides what a check finds: its version and settings, and the content of what it looks at."""
        records = {name: self.store.manifest(name) for name in (check.asset, *check.reads)}
        versions = {name: record.data_version if record else "" for name, record in records.items()}
        return fingerprint(check.version, check.name, versions, *check.asked(self.profile))

    def blocking_failures(self, asset: str) -> dict[str, str | None]:
        """What keeps an asset that stands from being read, by blocking check: what it found, or None if it has not looked."""
        check_results = self.store.check_results(asset)
        found: dict[str, str | None] = {}
        for check in checks_of(asset):
            result = check_results.get(check.name)
            if check.blocking and (result is None or result.fingerprint != self.check_fingerprint(check)):
                found[check.name] = None
            elif check.blocking and result and result.blocks:
                found[check.name] = result.sentence
        return found

    def _record(self, asset: str) -> Manifest:
        manifest = self.store.manifest(asset)
        if manifest is None:
            raise PipelineError(f"Asset {asset} has not been materialized; run: {materialize_command(asset)}")
        return manifest

    def _is_current(self, asset: str) -> bool:
        """Whether the asset, and all that it was made from, was made under this profile from what stands upstream now."""
        records = {name: self.store.manifest(name) for name in lineage(asset)}
        versions = {name: record.data_version for name, record in records.items() if record}
        return all(
            record is not None
            and record.code_version == code_version(name, self.profile)
            and all(versions.get(given) == version for given, version in record.inputs.items())
            for name, record in records.items()
        )
