"""Remove from a model what only training needs."""
