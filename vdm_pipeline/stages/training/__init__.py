"""`lora_weights`: LoRA on a Stable Diffusion UNet; a step's random numbers depend only on (seed, step)."""
