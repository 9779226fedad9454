"""The machine and the process that we run in: memory, other processes, interruptions, what is installed."""
