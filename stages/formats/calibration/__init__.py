"""Derive the ranges of activations from what tensors hold on calibration samples, whatever the file's format."""
