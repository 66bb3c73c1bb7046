"""`lora_weights`: LoRA on a Stable Diffusion UNet, by a loop whose step is a pure function of (seed, step)."""
