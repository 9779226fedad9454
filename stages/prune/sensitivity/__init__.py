"""Measure what each group alone costs in accuracy."""
