"""What people read of a run: progress while it goes on, tables afterwards, commands to type."""
