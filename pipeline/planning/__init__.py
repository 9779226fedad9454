"""Derive from a recipe the actions that it takes, each with its key and the reason why it runs."""
