"""What every asset is given: the profile, the project folder, and handles on what stands upstream."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vdm_pipeline.assets.catalogue import MEASURES, STAGES, code_version, lineage, make_command, outputs
from vdm_pipeline.errors import OutdatedError, PipelineError
from vdm_pipeline.gates import Gate, gates_of
from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.io.store import Store
from vdm_pipeline.settings import Profile, fingerprint

FORCE_TAG = "vdm/force"


@dataclass(frozen=True)
class Stored:
    """A handle on an upstream asset: where its outputs stand. Nothing is read until a stage opens a path."""

    asset: str
    paths: Mapping[str, Path]
    data_version: str

    def __getitem__(self, role: str) -> Path:
        """Path of one output."""
        return self.paths[role]


Inputs = Mapping[str, Stored]
"""Handles by asset."""


@dataclass(frozen=True)
class Run:
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
        wanted: set[str] = set()
        for door, names in asked.items():
            named = set(re.split(r"[,\s]+", names)) - {""}
            unknown = named - {"all", *STAGES}
            if unknown:
                raise PipelineError(
                    f"{door} names {', '.join(sorted(unknown))}, which is no asset; name all, or some of {', '.join(STAGES)}."
                )
            wanted |= named
        return "all" in wanted or asset in wanted

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
        found = {name: self.stored(name) for name in STAGES[asset].inputs}
        for name in found if asset not in MEASURES else ():
            for check, fault in self.stops(name).items():
                if fault is None:
                    raise PipelineError(f"Check {check} has not looked at {name} as it stands; run: {make_command(name)}")
                raise PipelineError(
                    f"Check {check} stopped {name}: {fault}. Mend that, or look at its figures, and run: {make_command(name)}"
                )
        return found

    def stored(self, asset: str) -> Stored:
        """The handle of an asset that stands; raises `PipelineError` like `inputs`, but not for what a check stopped."""
        manifest, paths = self._record(asset), self.paths(asset)
        gone = next((path for path in paths.values() if not path.exists()), None)
        if gone is not None:
            raise PipelineError(f"{gone}, made by asset {asset}, is gone; run: {make_command(asset)}")
        if not self.store.is_whole(manifest):
            raise PipelineError(f"Files of asset {asset} were changed since they were made; run: {make_command(asset)}")
        if not self._is_of_now(asset):
            raise OutdatedError(f"Asset {asset} was made with other settings or from other inputs; run: {make_command(asset)}")
        return Stored(asset, paths, manifest.data_version)

    def gate_fingerprint(self, gate: Gate) -> str:
        """Of all that decides what a check finds: its version and settings, and the content of what it looks at."""
        records = {name: self.store.manifest(name) for name in (gate.asset, *gate.reads)}
        versions = {name: record.data_version if record else "" for name, record in records.items()}
        return fingerprint(gate.version, gate.name, versions, *gate.asked(self.profile))

    def stops(self, asset: str) -> dict[str, str | None]:
        """What keeps an asset that stands from being read, by blocking check: what it found, or None if it has not looked."""
        verdicts = self.store.verdicts(asset)
        found: dict[str, str | None] = {}
        for gate in gates_of(asset):
            verdict = verdicts.get(gate.name)
            if gate.blocking and (verdict is None or verdict.fingerprint != self.gate_fingerprint(gate)):
                found[gate.name] = None
            elif gate.blocking and verdict and verdict.stops:
                found[gate.name] = verdict.sentence
        return found

    def _record(self, asset: str) -> Manifest:
        manifest = self.store.manifest(asset)
        if manifest is None:
            raise PipelineError(f"Asset {asset} has not been materialized; run: {make_command(asset)}")
        return manifest

    def _is_of_now(self, asset: str) -> bool:
        """Whether the asset, and all that it was made from, was made under this profile from what stands upstream now."""
        records = {name: self.store.manifest(name) for name in lineage(asset)}
        versions = {name: record.data_version for name, record in records.items() if record}
        return all(
            record is not None
            and record.code_version == code_version(name, self.profile)
            and all(versions.get(given) == version for given, version in record.inputs.items())
            for name, record in records.items()
        )
