"""Count instructions on emulated Cortex cores."""
