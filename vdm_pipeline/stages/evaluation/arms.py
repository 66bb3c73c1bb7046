"""Names of the arms, as they are JSON keys."""

BASELINE, LORA = "baseline", "lora"
"""Generated from one plan: the same prompts and seeds, without and with the trained LoRA."""
REAL = "real"
"""Real images that trained nothing, measured as if they were an arm."""
