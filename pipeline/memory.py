"""Giving memory back to the system between actions."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Collect what the last action left in cycles, and return free heap pages (glibc keeps them otherwise)."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # not glibc: its allocator has no such call
        return
