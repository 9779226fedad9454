"""Control when garbage is collected, and how much memory the allocator keeps ready.

Between actions free memory goes back to the system; within one it doesn't, since fetching pages again costs time.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

GROWTH_BYTES = 32 * 2**20
# glibc's numbers for `mallopt` (malloc.h), and what they are set to; the threshold is the largest that it accepts.
M_TOP_PAD, M_MMAP_THRESHOLD = -2, -3
HEAP_PAD_BYTES, MMAP_THRESHOLD_BYTES = 64 * 2**20, 32 * 2**20


def keep_pages_ready() -> None:
    """Let glibc take heap pages by the dozen megabytes and reuse them until `give_back` is called.

    Training requests the same large blocks at every step; with glibc's defaults each goes back to the system at once
    and is zeroed again, which takes a third of the training's time. Without glibc nothing happens.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_TOP_PAD, HEAP_PAD_BYTES)
        # Once set it stays, while glibc's own moves with the blocks that are freed.
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause garbage collection: code that makes many lasting objects would be searched repeatedly in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def physical_bytes() -> int:
    """Return the memory of this machine; if the system does not report it, more than any has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**62


def usable_bytes(membership: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory that processes here may take: the machine's, or the least limit of their control groups."""
    return min([physical_bytes(), *_limits(membership, groups)])


def _limits(membership: Path, groups: Path) -> Iterator[int]:
    """Yield the limits of a process's control group and of those above it (Linux' cgroups(7), versions 1 and 2)."""
    lines = ["0::/", "0:memory:/"]  # the roots at least: a container often sees its own group there
    with suppress(OSError):  # not Linux
        lines += membership.read_text().splitlines()
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (groups / "memory", "memory.limit_in_bytes") if controllers else (groups, "memory.max")
        group = PurePosixPath(path)
        for folder in (group, *group.parents):
            with suppress(OSError, ValueError):  # no such group here, or no limit: the word `max`
                yield int((root / folder.relative_to("/") / name).read_text())


def resident_bytes() -> int | None:
    """Return the resident size of this process; None if the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


class Collector:
    """Give memory back if it grew since the last time.

    After a short action there is nothing to find, and half a million objects to look through.
    """

    def __init__(self, resident: Callable[[], int | None] = resident_bytes) -> None:
        self._resident = resident
        self._known = 0  # resident size when memory was last given back

    def give_back(self) -> None:
        """Collect reference cycles, and return free heap pages (glibc keeps them otherwise)."""
        now = self._resident()
        if now is not None and now - self._known < GROWTH_BYTES:
            return
        gc.collect()
        with suppress(OSError, AttributeError):  # not glibc: its allocator has no such call
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        self._known = self._resident() or 0


give_back = Collector().give_back  # of this process
