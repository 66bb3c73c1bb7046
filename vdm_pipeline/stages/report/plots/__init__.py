"""Plots of labels, image metrics and training."""
