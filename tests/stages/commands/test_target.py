"""Check the command that lists targets."""

from __future__ import annotations

import subprocess
import sys


def test_the_command_lists_them_without_anything_heavy() -> None:
    program = (
        "import sys; sys.argv[1:] = ['target', 'list']\n"
        "from pipeline.start import main\n"
        "try: main()\nexcept SystemExit as end: print(end.code)\n"
        "print({'numpy', 'tensorflow', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "cortex-a72" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["0", "set()"]
