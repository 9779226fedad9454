"""Fit layers of a network by least squares: layers as linear maps, normal equations, the order of steps."""
