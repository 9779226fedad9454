"""The emulated core, where it is set up on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.errors import DeviceError
from stages.benchmark import Target, device_fingerprint, find_target
from stages.benchmark.targets.qemu import root_of
from stages.benchmark.targets.sysroot import system_folder


@dataclass(frozen=True)
class Emulated:
    """A target that is set up, and where its parts are."""

    target: Target
    system: Path
    root: Path


def _emulated() -> Emulated | str:
    """Looked up once at the start: tests point the cache elsewhere."""
    target = find_target("cortex-a72")
    try:
        device_fingerprint(target)
    except DeviceError as error:
        return f"{error.what}: {error.hint}"
    return Emulated(target, system_folder(), root_of(target))


FOUND = _emulated()


@pytest.fixture
def cortex_a72() -> Emulated:
    if isinstance(FOUND, str):
        pytest.skip(FOUND)
    return FOUND
