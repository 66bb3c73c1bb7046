"""Images from prompts and seeds: one plan for every arm, drawn by Stable Diffusion with adapters in its weights."""
