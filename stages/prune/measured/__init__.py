"""Costs measured on a device, that widths are chosen by."""
