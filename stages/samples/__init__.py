"""Data on its way to a model: calibration sets, batches, checks, decoding."""
