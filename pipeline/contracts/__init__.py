"""What the engine asks of stages, commands and whoever listens, and how it finds them."""
