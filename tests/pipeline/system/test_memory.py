import gc
import platform
import subprocess
import sys
import weakref

import pytest

from pipeline.system.memory import (
    GROWTH_BYTES,
    Collector,
    collection_paused,
    physical_bytes,
    resident_bytes,
    usable_bytes,
)


class Cycle:
    def __init__(self):
        self.itself = self


def left_behind():
    return weakref.ref(Cycle())


@pytest.fixture
def collector_off():
    gc.disable()
    yield
    gc.enable()


def test_what_is_left_in_cycles_goes_each_time_that_memory_grew(collector_off):
    sizes = iter([GROWTH_BYTES, GROWTH_BYTES, 2 * GROWTH_BYTES - 1, 2 * GROWTH_BYTES, GROWTH_BYTES])
    collector = Collector(lambda: next(sizes))
    left = left_behind()
    collector.give_back()
    assert left() is None
    left = left_behind()
    collector.give_back()
    assert left() is not None
    collector.give_back()
    assert left() is None


def test_where_the_size_is_not_reported_memory_is_given_back_each_time(collector_off):
    collector = Collector(lambda: None)
    for left in (left_behind(), left_behind()):
        collector.give_back()
        assert left() is None


def test_a_process_holds_at_least_what_it_touched():
    before = resident_bytes()
    touched = bytearray(b"x" * GROWTH_BYTES)
    assert resident_bytes() - before >= len(touched) * 0.9


@pytest.mark.parametrize(
    ("membership", "limits", "usable"),
    [
        ("0::/a.slice/b.service\n", {"a.slice/memory.max": "3000\n", "a.slice/b.service/memory.max": "max\n"}, 3000),
        ("0::/a.slice\n", {"a.slice/memory.max": "3000", "memory.max": "2000"}, 2000),
        ("9:name=systemd:/x\n4:memory:/box/1\n0::/\n", {"memory/memory.limit_in_bytes": "5000"}, 5000),  # a container
        ("5:cpu,memory:/a\n", {"memory/a/memory.limit_in_bytes": "4000"}, 4000),
        ("0::/\n", {"memory.max": "max"}, physical_bytes()),
        ("1:cpu:/x\n", {"x/memory.max": "1"}, physical_bytes()),
    ],
)
def test_the_least_limit_of_a_control_group_or_one_above_it_counts(tmp_path, membership, limits, usable):
    (tmp_path / "cgroup").write_text(membership)
    for name, limit in limits.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(limit)
    assert usable_bytes(tmp_path / "cgroup", tmp_path / "groups") == usable


def test_the_limits_at_the_roots_count_also_where_the_membership_is_not_told(tmp_path):
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("5000")
    assert usable_bytes(tmp_path / "absent", tmp_path) == 5000


def test_collection_goes_on_after_a_pause_even_one_that_fails():
    with collection_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), collection_paused():
        1 / 0  # noqa: B018
    assert gc.isenabled()


REUSED = """
import ctypes, resource, sys
from pipeline.system.memory import give_back, keep_pages_ready, resident_bytes

libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = libc.memset.argtypes = None
MB = 2**20

def touched(size):
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
    libc.memset(block, ctypes.c_int(1), ctypes.c_size_t(size))
    return block

keep_pages_ready()
def a_step():
    for block in [touched(24 * MB), touched(24 * MB)]:
        libc.free(block)

a_step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    a_step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
resident = resident_bytes()
give_back()
print(faults, (resident - resident_bytes()) // MB)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere nothing is set")
def test_blocks_that_are_asked_for_again_keep_their_pages_until_memory_is_given_back():
    faults, freed_mb = map(int, subprocess.check_output([sys.executable, "-c", REUSED], text=True).split())
    assert faults < 60_000  # one fetch of 48 MB is 12,288 faults, and there are 20 steps
    assert freed_mb >= 24
