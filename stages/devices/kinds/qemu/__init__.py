"""Emulated Cortex cores, on which instructions are counted."""
