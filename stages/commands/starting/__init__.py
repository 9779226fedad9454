"""What `init` finds out about a model and its data, and the recipe that it writes."""
