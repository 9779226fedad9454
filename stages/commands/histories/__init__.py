"""Keep the history of measurements in a growing file of JSON lines, and draw it."""
