"""Inspect exported files layer by layer: whose an operator is, and how close its outputs are to Keras'."""
