"""Removing channels from a model, and proving that what is left computes the same."""
