"""When memory is searched for what nobody needs, and how much of it the allocator keeps ready meanwhile.

Between actions what is free goes back to the system; within one it doesn't, since fetching pages anew costs time.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GROWTH_BYTES = 32 * 2**20
# glibc's numbers for `mallopt` (malloc.h), and what they are set to; the threshold is the greatest that it takes.
M_TOP_PAD, M_MMAP_THRESHOLD = -2, -3
HEAP_PAD_BYTES, MMAP_THRESHOLD_BYTES = 64 * 2**20, 32 * 2**20

_given_back: dict[str, int] = {}  # what was resident when memory was given back last


def keep_pages_ready() -> None:
    """Let glibc take heap pages by the dozen megabytes and reuse them, for as long as `give_back` is not called.

    A training asks for the same large blocks at every step; with glibc's defaults each goes back to the system at
    once and is zeroed anew: a third of the training's time. Elsewhere than on glibc nothing happens.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_TOP_PAD, HEAP_PAD_BYTES)
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def give_back() -> None:
    """Collect what was left in cycles, and return free heap pages (glibc keeps them otherwise).

    Only where memory grew since the last time: after a short action there is nothing to find, and half a million
    objects to look through.
    """
    if _resident_bytes() - _given_back.get("bytes", 0) < GROWTH_BYTES:
        return
    gc.collect()
    with suppress(OSError, AttributeError):  # not glibc: its allocator has no such call
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    _given_back["bytes"] = _resident_bytes()


@contextmanager
def collection_paused() -> Iterator[None]:
    """Meanwhile no search for garbage: what makes many objects that stay would be searched again and again in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def physical_bytes() -> int:
    """The memory of this machine; where the system does not tell, more than any has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**62


def usable_bytes() -> int:
    """The memory that processes here may take: the machine's, or less where their control group has a bound."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no Linux, another version of control groups, or the word `max`
            return min(physical_bytes(), int(Path(path).read_text()))
    return physical_bytes()


def _resident_bytes() -> int:
    """Of this process; where the system does not tell, more each time."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return _given_back.get("bytes", 0) + GROWTH_BYTES
    return pages * os.sysconf("SC_PAGE_SIZE")
