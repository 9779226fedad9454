"""Export the quantized model as a file of each format."""
