"""Image generation: one plan of prompts and seeds for all arms, sampled by Stable Diffusion with adapters."""
