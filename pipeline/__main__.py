"""Run the command line: `python -m pipeline` is the same as `secateur`."""

from pipeline.start import main

main()
