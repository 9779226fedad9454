"""Work with Keras models: their normal form, graph and facts, and how their layers are run."""
