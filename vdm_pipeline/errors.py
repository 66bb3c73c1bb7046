"""Errors that a user can fix. A message is one sentence: the file or field, what is wrong, how to fix it."""

PIP_INSTALL = ".venv/bin/pip install -c constraints.txt"
"""In the project folder. The package itself is on no index: PyPI might have a stranger's of this name."""


def install_command(extra: str) -> str:
    """The command that installs this package with an extra of pyproject.toml."""
    return f"{PIP_INSTALL} -e '.[{extra}]'"


class PipelineError(Exception):
    """Bad input, a missing upstream asset, or a broken promise of a file or server."""


class SettingsError(PipelineError):
    """A profile that cannot be used."""


class ArchiveError(PipelineError):
    """A data archive that cannot be used."""


class ModelError(PipelineError):
    """A model that is missing, not the pinned one, or not of the expected kind."""


class NetworkError(PipelineError):
    """A server that cannot be reached or breaks off: the only error that is retried."""


class StaleAssetError(PipelineError):
    """An upstream asset whose settings or inputs changed."""
