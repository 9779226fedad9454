"""Check what the aarch64 system is made with."""

import subprocess
import sys
import types
from pathlib import Path

from stages.devices.kinds.qemu.sysroot import _python_with_pip


def test_a_python_with_pip_is_found_also_where_distutils_is_loaded(monkeypatch):
    """If distutils is loaded, setuptools warns when the module pip is looked for, and warnings are errors here."""
    monkeypatch.setitem(sys.modules, "distutils", types.ModuleType("distutils"))
    python = _python_with_pip()
    assert Path(python).is_absolute()  # an activated environment's own python comes first on PATH, without pip
    done = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
    assert done.stdout.startswith(b"pip ")
