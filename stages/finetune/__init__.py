"""Train to recover what a transform cost; a kill at any moment loses at most one epoch."""
