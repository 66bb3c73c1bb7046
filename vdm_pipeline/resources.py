"""What every asset is given: the profile, the project folder, and handles on what stands upstream."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from vdm_pipeline.assets.catalogue import MEASURES, STAGES, code_version, make_command, outputs
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.io.store import Store
from vdm_pipeline.settings import Profile, fingerprint

FORCE_TAG = "vdm/force"


@dataclass(frozen=True)
class Run:
    """One profile in one project folder."""

    profile: Profile
    store: Store

    def forced(self, asset: str = "", tags: Mapping[str, str] | None = None) -> bool:
        """Whether ``$VDM_FORCE`` or the run's tag ``vdm/force`` (names with commas, or ``all``) asks to make the asset again.

        Raises `PipelineError` for a name that is no asset's.
        """
        asked = {"VDM_FORCE": os.environ.get("VDM_FORCE", ""), FORCE_TAG: (tags or {}).get(FORCE_TAG, "")}
        wanted: set[str] = set()
        for door, names in asked.items():
            named = {name.strip() for name in names.split(",")} - {""}
            unknown = named - {"all", *STAGES}
            if unknown:
                raise PipelineError(
                    f"{door} names {', '.join(sorted(unknown))}, which is no asset; name all, or some of {', '.join(STAGES)}."
                )
            wanted |= named
        return "all" in wanted or asset in wanted

    def input_versions(self, asset: str) -> dict[str, str]:
        """Data versions of what the asset is made from, as they stand now. Raises `PipelineError` if one was never made."""
        return {name: self._data_version(name) for name in STAGES[asset].inputs}

    def fingerprint(self, asset: str) -> str:
        """Of all that decides the asset: code, settings and model pins, and the content of its inputs."""
        return fingerprint(code_version(asset, self.profile), self.input_versions(asset))

    def _data_version(self, asset: str) -> str:
        manifest = self.store.manifest(asset)
        if manifest is None:
            raise PipelineError(f"Asset {asset} has not been materialized; run: {make_command(asset)}")
        return manifest.data_version

    def stops(self, asset: str) -> dict[str, str]:
        """What blocking checks found wrong with the asset as it stands, by check."""
        manifest, verdicts = self.store.manifest(asset), self.store.verdicts(asset)
        return {
            check: found.sentence
            for check, found in verdicts.items()
            if found.stops and manifest and found.data_version == manifest.data_version
        }

    def paths(self, asset: str) -> dict[str, Path]:
        """Absolute paths of an asset's outputs, by role."""
        return {role: self.store.path(name) for role, name in outputs(asset, self.profile).items()}


@dataclass(frozen=True)
class Stored:
    """A handle on an upstream asset: where its outputs stand. Nothing is read until a stage opens a path."""

    asset: str
    paths: Mapping[str, Path]
    data_version: str

    def __getitem__(self, role: str) -> Path:
        """Path of one output."""
        return self.paths[role]


class ResultsIOManager(dg.IOManager):
    """Hands on handles; the assets publish their files themselves, so that a re-used asset writes nothing."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Never called by a finished asset: they return a MaterializeResult without a value."""
        raise PipelineError(f"Asset {context.asset_key.to_user_string()} returned a value; assets publish files and return none.")

    def load_input(self, context: dg.InputContext) -> Stored:
        """The handle of an upstream asset; a sentence with the command where it was never made or is gone."""
        asset, reader = context.asset_key.to_user_string(), context.op_def.name if context.op_def else ""
        try:
            stored = self.stored(asset)
            if reader in STAGES and reader not in MEASURES:  # a check looks at what it stopped the last time
                self._refuse_stopped(stored)
            return stored
        except PipelineError as error:
            raise dg.Failure(str(error), allow_retries=False) from None

    def stored(self, asset: str) -> Stored:
        """Like `load_input`, without Dagster; raises `PipelineError`."""
        manifest, paths = self.run.store.manifest(asset), self.run.paths(asset)
        if manifest is None:
            raise PipelineError(f"Asset {asset} has not been materialized; run: {make_command(asset)}")
        gone = next((path for path in paths.values() if not path.exists()), None)
        if gone is not None:
            raise PipelineError(f"{gone}, made by asset {asset}, is gone; run: {make_command(asset)}")
        if not self.run.store.is_whole(manifest):
            raise PipelineError(f"Files of asset {asset} were changed since they were made; run: {make_command(asset)}")
        if not self._is_of_now(manifest):
            raise PipelineError(f"Asset {asset} was made with other settings or from other inputs; run: {make_command(asset)}")
        return Stored(asset, paths, manifest.data_version)

    def _refuse_stopped(self, stored: Stored) -> None:
        """Raise `PipelineError` if a blocking check stopped the asset, in whatever run that was."""
        for check, found in self.run.stops(stored.asset).items():
            raise PipelineError(
                f"Check {check} stopped {stored.asset}: {found}. Mend that, or look at its figures, and run: {make_command(stored.asset)}"
            )

    def _is_of_now(self, manifest: Manifest) -> bool:
        """Whether the asset, and all that it was made from, was made under this profile from what stands upstream now."""
        if manifest.code_version != code_version(manifest.asset, self.run.profile):
            return False
        inputs = {name: self.run.store.manifest(name) for name in manifest.inputs}
        return all(m is not None and m.data_version == manifest.inputs[name] and self._is_of_now(m) for name, m in inputs.items())
