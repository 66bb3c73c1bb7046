"""The only imports of Dagster's private modules in the tests: where no public API exists."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
from dagster._config import process_config
from dagster._config.field_utils import convert_potential_field
from dagster._core.definitions.data_version import StaleStatus
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import EngineEventData
from dagster._core.test_utils import create_run_for_test
from dagster._utils.test.data_versions import get_stale_status_resolver

__all__ = [
    "DagsterExecutionInterruptedError",
    "EngineEventData",
    "SensorExecutionData",
    "create_run_for_test",
    "resolve_config",
    "stale_in_dagster",
]


def stale_in_dagster(assets: Iterable[dg.AssetsDefinition], instance: dg.DagsterInstance) -> set[str]:
    """Names of the assets that Dagster's UI marks as unsynced or never materialized."""
    listed = list(assets)
    resolver = get_stale_status_resolver(instance, listed)
    stale = (asset for asset in listed if resolver.get_status(asset.key) != StaleStatus.FRESH)
    return {asset.key.to_user_string() for asset in stale}


def resolve_config(schema: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with Dagster's defaults; raises `AssertionError` with its errors if they do not fit."""
    result = process_config(convert_potential_field(schema).config_type, dict(values))
    assert result.success, result.errors
    return dict(result.value)
