"""Find out about a model and its data for `init`, and write the recipe."""
