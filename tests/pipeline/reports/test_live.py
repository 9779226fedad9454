import os
import pty
import re
import subprocess
import sys


def test_on_a_terminal_the_running_action_is_alive_and_its_line_goes():
    code = (
        "import sys; from pipeline.reports.progress import Progress; from pipeline.contracts.events import *\n"
        "import time\n"
        "with Progress(sys.stderr, ['prune', 'finetune']) as progress:\n"
        "    progress(Started('prune', 'first run'))\n"
        "    progress(Advanced('prune', 1, 4, 'epoch 1/4', 'loss 0.3'))\n"
        "    time.sleep(0.6)\n"
        "    progress(Finished('prune', 'ran', 'first run', 1.0, {}))\n"
    )
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen([sys.executable, "-c", code], stderr=slave, env=environment)
    os.close(slave)
    written = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        if not chunk:
            break
        written += chunk
    os.close(master)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode())
    assert "epoch 1/4" in text
    assert "25%" in text
    assert "loss 0.3" in text
    assert "○ finetune" in text
    assert "✔ prune" in text
