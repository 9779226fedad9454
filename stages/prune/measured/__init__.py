"""Measure costs on a device, by which widths are chosen."""
