"""Take out of a model what only training needs, and fold batch normalizations."""
