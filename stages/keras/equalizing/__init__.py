"""Make a network's channels alike in size, with equal outputs, before it is quantized (docs/design/equalizing.md)."""
