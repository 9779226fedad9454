import subprocess
import sys

STOPPED = """
import signal
import pipeline.cli
from pipeline.system import interruption

def command_line():
    print(signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGINT) is interruption.request)
    raise KeyboardInterrupt

pipeline.cli.main = command_line
from pipeline.start import main
main()
"""


def test_an_interruption_ends_quietly_and_both_signals_ask_for_one():
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "True\n", "")
