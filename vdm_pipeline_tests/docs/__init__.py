"""Tests that the documents agree with the code."""
