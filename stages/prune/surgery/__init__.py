"""Remove channels from a model, and prove that the rest computes the same."""
