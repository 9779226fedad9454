"""Define the records of a run, and the keys that they are found by."""
