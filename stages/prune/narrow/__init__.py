"""Make the yardstick of pruning: the same network, uniformly narrower, with random weights."""
