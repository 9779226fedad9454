"""Batch-normalisation statistics measured anew on unlabelled data, after a change of the layers before them."""
