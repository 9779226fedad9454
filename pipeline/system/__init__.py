"""Inspect the machine and this process: memory, other processes, interruptions, installed packages."""
