"""Start the `secateur` command: set up what must hold before anything else is imported."""

from __future__ import annotations

import gc
import os
import signal
import sys

INTERRUPTED = 130
# Startup makes some 70,000 objects and no garbage: with a lower threshold, such as Python's 700, they would be searched
# in vain.
GC_THRESHOLD = 100_000


def main() -> None:
    """Run the command line. Ctrl-C during imports ends quietly, too."""
    gc.set_threshold(GC_THRESHOLD)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it opens every installed package, for none
    try:
        from pipeline.system import interruption

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interruption.request)
        from pipeline.cli import main as run_command_line

        run_command_line()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        # Otherwise the interpreter searches every imported object for garbage as it exits, which was measured to take a
        # third of a cached run.
        gc.freeze()
