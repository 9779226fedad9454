"""What is written down of a run, and the keys that it is found by."""
