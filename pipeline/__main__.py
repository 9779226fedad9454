"""`python -m pipeline`: the same as `secateur`."""

from pipeline.start import main

main()
