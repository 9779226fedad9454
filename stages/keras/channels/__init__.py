"""Find which channels belong together: labels, rules for layers, groups."""
