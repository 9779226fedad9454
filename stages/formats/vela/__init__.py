"""TFLite files that Vela compiled for Ethos-U accelerators."""
