"""strip: what only training needs is taken out of a model."""
