from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DeviceError
from stages.devices.kinds.qemu.emulation import Region, read_regions


def test_more_than_one_virtual_cpu_or_a_lost_count_is_refused(tmp_path: Path) -> None:
    whole = "empty 100 20 0 30 50\ncall 1000 200 500 100 200\n" + "call 1001 200 500 101 200\n" * 2
    file = tmp_path / "counts"
    file.write_text(whole + "vcpus 1\n")
    assert read_regions(file, "model")["call"][0] == Region(1000, (200, 500, 100, 200))
    for text, words in (
        (whole + "vcpus 2\n", "2 virtual CPUs"),
        (whole, "unknown number"),
        ("vcpus 1\n", "before all"),
    ):
        file.write_text(text)
        with pytest.raises(DeviceError, match=words):
            read_regions(file, "model")
