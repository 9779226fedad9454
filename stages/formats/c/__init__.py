"""C source for microcontrollers, made from TFLite files."""
