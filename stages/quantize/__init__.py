"""Choose which scheme a model is exported in, and the calibration data that goes with it."""
