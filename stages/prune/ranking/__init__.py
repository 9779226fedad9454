"""Which channels matter: criteria, and families of layers that are compared."""
