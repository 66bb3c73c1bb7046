"""From a MedMNIST archive to synthetic images that can be trusted, as Dagster assets."""

__version__ = "0.1.0"
