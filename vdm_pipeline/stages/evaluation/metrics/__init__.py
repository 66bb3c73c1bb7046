"""Formulas over plain arrays; no files, no device, no Dagster."""
