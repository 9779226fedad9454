"""Measure batch-normalization statistics again on unlabelled data, after a change of the layers before them."""
