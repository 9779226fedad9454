"""Which channels belong together: labels, rules for layers, groups."""
