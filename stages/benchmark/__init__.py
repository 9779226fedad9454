"""Measure the latency of exported files on targets, compared with a baseline; probe single operators."""
