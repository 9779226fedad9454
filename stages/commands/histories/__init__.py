"""The history of measurements: a file of JSON lines that grows, and what is drawn from it."""
