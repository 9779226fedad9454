"""Read and check the user's YAML, and say where it is wrong."""
