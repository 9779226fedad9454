"""Set up the emulated core as a user does, if this machine can."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from platform import machine

import pytest
from filelock import FileLock

from pipeline.errors import DeviceError
from stages.devices.kinds.qemu.emulation import root_of
from stages.devices.kinds.qemu.sysroot import system_folder, targets_folder
from stages.devices.target import Target, device_fingerprint, find_target

NEEDED = ("apt-get", "dpkg-deb", "cc")


@dataclass(frozen=True)
class Emulated:
    """Hold a target that is set up, and where its parts are."""

    target: Target
    system: Path
    root: Path


@pytest.fixture(scope="session")
def cortex_a72() -> Emulated:
    """Set up once in the user's cache, about 40 s, by one of the test processes, and reuse it afterwards."""
    target = find_target("cortex-a72")
    targets_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(targets_folder() / "tests.lock"):
        try:
            device_fingerprint(target)
        except DeviceError as error:
            missing = [program for program in NEEDED if shutil.which(program) is None]
            if machine() != "x86_64" or missing:
                pytest.skip(f"{error.what}, and can't be: this needs x86-64 and {', '.join(NEEDED)}")
            target.driver.set_up(target, print)
    return Emulated(target, system_folder(), root_of(target))
