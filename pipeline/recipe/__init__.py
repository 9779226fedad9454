"""The user's YAML: reading it, checking it, and saying where it is wrong."""
