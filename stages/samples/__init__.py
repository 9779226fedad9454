"""Prepare data for a model: calibration sets, batches, checks, decoding."""
