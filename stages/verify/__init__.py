"""verify and evaluate: exported files held against their Keras reference, and metrics on the test split."""
