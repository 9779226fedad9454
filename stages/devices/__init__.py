"""Devices that files are measured on: drivers, rounds, statistics, profiles."""
