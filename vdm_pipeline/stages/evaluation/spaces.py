"""Names of the two feature spaces, wherever their figures are written or read."""

LABELLER, INDEPENDENT = "labeller", "independent"
"""The figures of the first stand directly in a group, those of the second under its name."""
SPACES = (LABELLER, INDEPENDENT)
