import os

import pytest
from hypothesis import settings

# Set every recipe's default before TensorFlow starts: a process can't change it afterwards.
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "2"

# Use the same examples on every machine: code that passed once does not fail elsewhere by chance.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

LOWER = """
def lower():
    from stages.keras import serving as interface
    interface.MOST_BYTES = 1000
"""


@pytest.fixture
def small_files(tmp_path, monkeypatch):
    """Let one file hold 1,000 bytes, here and in the child that exports."""
    from stages.formats.apart.process import end_child, warm

    monkeypatch.setattr("stages.keras.serving.MOST_BYTES", 1000)
    (tmp_path / "small_files.py").write_text(LOWER)
    monkeypatch.syspath_prepend(tmp_path)
    end_child()
    warm(0, ["small_files:lower"])
    yield
    end_child()
