"""Decide what `compare` compares, by which numbers, and format the answer."""
