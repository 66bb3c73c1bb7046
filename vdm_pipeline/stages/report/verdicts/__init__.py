"""Verdicts: plain sentences on how the metrics came out, also when they are poor, unclear or missing."""
