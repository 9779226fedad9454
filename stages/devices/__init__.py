"""Measure files on devices: drivers, rounds, statistics, profiles."""
