"""Plots as PNG files, for the report and for Dagster's metadata; none touches pyplot's global state."""
