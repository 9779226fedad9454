"""Define what the engine requires of stages, commands and listeners, and find them."""
