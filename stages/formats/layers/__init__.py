"""Exported files layer by layer: whose an operator is, and how near its outputs are to Keras'."""
