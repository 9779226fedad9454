"""A Keras model: its normal form, its graph, its facts, and how its layers are run."""
