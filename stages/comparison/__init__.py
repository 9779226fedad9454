"""Comparing model files: what is compared, on which numbers, and in which forms the answer comes."""
