"""Fit what pruning leaves to the source's own layer outputs, without labels."""
