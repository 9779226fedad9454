"""Count the exact number of instructions of a model's inference on a named Cortex core (kind `qemu`).

Times under emulation are meaningless, and none are reported.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from filelock import FileLock
from pydantic import Field

from pipeline.errors import DeviceError
from pipeline.records.artifacts import Kind
from pipeline.records.keys import digest_of
from pipeline.records.metrics import SIZE, Metric
from pipeline.store.files import publish
from stages.devices.counts import Counts
from stages.devices.kinds.qemu.check import check_target
from stages.devices.kinds.qemu.emulation import (
    CLASSES,
    MARKED_CALLS,
    count_once,
    document_emulated,
    l2_kib,
    make_root,
    root_of,
    run_emulated,
)
from stages.devices.kinds.qemu.sysroot import ensure_system, read_lock
from stages.devices.metrics import BASELINE_INSTRUCTIONS, INSTRUCTION_RATIO, INSTRUCTIONS
from stages.devices.target import CostUnit, Probed, Say, Target, TargetSettings


class QemuSettings(TargetSettings):
    """Configure the core: `l2_kib` is the L2 cache in KiB that runtimes see: float32 kernels tile by it."""

    core: Literal["cortex-a53", "cortex-a72", "cortex-a76"]
    l2_kib: int | None = Field(default=None, ge=64)


class QemuDriver:
    """Count on an emulated core."""

    settings: ClassVar[type[TargetSettings]] = QemuSettings
    metrics: ClassVar[tuple[Metric, ...]] = (
        INSTRUCTIONS,
        INSTRUCTION_RATIO,
        BASELINE_INSTRUCTIONS,
        *(Metric(f"instructions_{name}", "count", lower_is_better=True) for name in CLASSES),
        SIZE,
    )
    formats: ClassVar[tuple[Kind, ...]] = ("tflite-model", "onnx-model")
    cost_unit: ClassVar[CostUnit] = "instructions"

    def fingerprint(self, target: Target) -> dict[str, str]:
        record = _setup(target)
        return {"core": target.settings.core, "l2_kib": str(l2_kib(target)), "system": record["system"]}

    def set_up(self, target: Target, say: Say) -> None:
        system, root = ensure_system(say), root_of(target)
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.with_name(f"{root.name}.lock")):  # another set-up would replace the root during the check
            make_root(target, system)
            say(f"checking {target.name} against this machine")
            document = {"system": digest_of("sysroot", read_lock()), **check_target(target, say)}
            # Last: `make_root` deleted the old record, so that a target counts as set up only once its check has
            # passed.
            publish(_setup_file(target), json.dumps(document, indent=1).encode(), root)

    def count(self, target: Target, model: Path, name: str) -> Counts:
        return self.count_shaped(target, model, name, ())

    def count_shaped(self, target: Target, model: Path, name: str, shapes: Sequence[str]) -> Counts:
        return count_once(target, model, name, _setup(target)["spread"], shapes=shapes)

    def probe(self, target: Target, archive: Path, name: str, options: Sequence[str] = ()) -> Probed:
        _setup(target)
        document, regions = run_emulated(target, archive, ["--series", *options], name)
        empty = min(regions["empty"]).total
        calls = [
            regions["call"][start : start + MARKED_CALLS] for start in range(0, len(regions["call"]), MARKED_CALLS)
        ]
        runtime = f"{document['runtime']} {document['runtime_version']}"
        # The least of the marked calls: the first one still differs a little, and an allocator's work only adds.
        return Probed(runtime, tuple(float(max(0, min(marked).total - empty)) for marked in calls))

    def document(self, target: Target, model: Path, options: Sequence[str], name: str) -> dict[str, Any]:
        _setup(target)
        return document_emulated(target, model, options, name)


def _setup(target: Target) -> dict[str, Any]:
    """Return what set-up found; DeviceError if it has not been done, or not for these versions."""
    hint = target.set_up_command
    try:
        record = json.loads(_setup_file(target).read_bytes())
    except (OSError, ValueError) as error:
        raise DeviceError(f"the target {target.name} is not set up", where=str(target.file), hint=hint) from error
    lock = read_lock()
    if lock is None or record["system"] != digest_of("sysroot", lock):
        raise DeviceError(f"the target {target.name} was set up for other versions", where=str(target.file), hint=hint)
    return record  # type: ignore[no-any-return]


def _setup_file(target: Target) -> Path:
    return root_of(target) / "setup.json"
