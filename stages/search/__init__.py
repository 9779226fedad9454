"""Search: from a model and a goal to the fastest network that meets it (docs/design/search.md)."""
