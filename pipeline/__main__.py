"""`python -m pipeline`: the same as `secateur`."""

from pipeline.cli import main

main()
