"""Render what people read of a run: progress while it runs, tables afterwards, commands to type."""
