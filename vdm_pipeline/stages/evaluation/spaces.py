"""Names of the two feature spaces, as metrics are computed in them and as JSON keys spell them."""

LABELLER, INDEPENDENT = "labeller", "independent"
SPACES = (LABELLER, INDEPENDENT)
