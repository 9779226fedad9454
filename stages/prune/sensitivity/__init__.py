"""What each group alone costs in accuracy."""
