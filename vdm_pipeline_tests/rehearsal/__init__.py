"""Runs the large profile with random weights in the architectures and layouts of the real models."""
