"""Compare exported files with their Keras reference, and compute metrics on the test split."""
