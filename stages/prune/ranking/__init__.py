"""Rank channels: criteria, and families of layers that are compared."""
