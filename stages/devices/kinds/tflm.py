"""Run a file in TensorFlow Lite for Microcontrollers (kind `tflm`): whether it runs, its outputs, and its arena.

The arena is all memory that a microcontroller needs besides the file itself; it is exact. The kernels here are the
reference ones, so that neither time nor instructions would say anything about a real device.
"""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pipeline.errors import DeviceError
from pipeline.records.artifacts import Kind
from pipeline.records.metrics import SIZE, Metric
from pipeline.records.schemes import Quantization
from pipeline.reports.command_lines import install_optional
from pipeline.system.processes import TIMEOUT_S, require_success, run_process
from stages.devices.counts import Counts
from stages.devices.measurement import digests_of
from stages.devices.runner_file import runner_file
from stages.devices.target import Say, Target, TargetSettings
from stages.formats.c import ARENA
from stages.formats.c.tflm import RUNTIME
from stages.formats.tflite.micro_limits import allowed_difference, micro_difference, refused_in_micro, wrong_in_micro

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROCESS = "stages.devices.kinds.tflm_process"


class TflmSettings(TargetSettings):
    """Configure the device: `arena_limit_bytes` is what it has: a model that needs more is refused."""

    arena_limit_bytes: int | None = Field(default=None, gt=0)


class TflmDriver:
    """Return arena and outputs on the host's build of TFLM."""

    settings: ClassVar[type[TargetSettings]] = TflmSettings
    metrics: ClassVar[tuple[Metric, ...]] = (
        ARENA,
        Metric("arena_ratio", "ratio", lower_is_better=True, of=ARENA.name),
        Metric(f"baseline_{ARENA.name}", "bytes", lower_is_better=None),
        Metric("arena_head_bytes", "bytes", lower_is_better=True),
        Metric("arena_tail_bytes", "bytes", lower_is_better=True),
        SIZE,
    )
    formats: ClassVar[tuple[Kind, ...]] = ("tflite-model",)

    def fingerprint(self, target: Target) -> dict[str, str]:
        limit = target.settings.arena_limit_bytes
        return {"tflite-micro": installed("tflite-micro", target)} | ({"arena_limit": str(limit)} if limit else {})

    def refuses(self, how: Quantization) -> str | None:
        reason = refused_in_micro(how)
        return f"{RUNTIME} can't compute {how.scheme}: {reason}" if reason else None

    def set_up(self, target: Target, say: Say) -> None:
        say(f"tflite-micro {installed('tflite-micro', target)} is installed: nothing more to set up")

    def count(self, target: Target, model: Path, name: str) -> Counts:
        runtime, data = f"tflite-micro {installed('tflite-micro', target)}", model.read_bytes()
        done = run_process([sys.executable, "-m", PROCESS, str(model)], name, TIMEOUT_S)
        require_success(done, name, "TensorFlow Lite for Microcontrollers", "can't run this model")
        document = json.loads(done.stdout)
        _require_equal_outputs(model, data, document["outputs"], name)
        arena, limit = document["arena"], target.settings.arena_limit_bytes
        if limit is not None and arena["total"] > limit:
            what = f"the model needs an arena of {arena['total']} bytes, and {target.name} has {limit}"
            raise DeviceError(what, where=name, hint="prune further, or make the input smaller")
        parts = {f"arena_{part}_bytes": float(arena[part]) for part in ("head", "tail")}
        return Counts(
            target=target.name,
            runtime=runtime,
            metrics={"arena_bytes": float(arena["total"]), **parts},
            main="arena_bytes",
            spread=0.0,
            estimated=False,
            outputs=digests_of(document["outputs"]),
        )


def _require_equal_outputs(model: Path, data: bytes, outputs: Sequence[Mapping[str, Any]], name: str) -> None:
    """Raise DeviceError if LiteRT gives other outputs on the same sample: the arena of a wrong result is worthless."""
    command = [sys.executable, str(runner_file()), str(model), "--count", "1", "--outputs"]
    done = run_process(command, name, TIMEOUT_S)
    require_success(done, name, "LiteRT", "can't run this model, so that TFLM's outputs can't be compared")
    expected = json.loads(done.stdout)["outputs"]
    difference = micro_difference(data, [_array(output) for output in expected], [_array(output) for output in outputs])
    allowed = allowed_difference(data)
    if not difference <= allowed:  # `not`, so that NaN is refused as well
        what = f"{RUNTIME} gives other outputs than LiteRT: {difference:.1e} of the largest, {allowed:.0e} is allowed"
        known = wrong_in_micro(data)
        hint = f"{known}: take int8, int16x8 or float32" if known else "please report the model: no reason is known"
        raise DeviceError(what, where=name, hint=hint)


def _array(output: Mapping[str, Any]) -> NDArray[Any]:
    import numpy as np

    return np.frombuffer(b64decode(output["base64"]), output["dtype"]).reshape(output["shape"])


def installed(package: str, target: Target) -> str:
    """Return the version of a package that a target needs; DeviceError with the command that installs it."""
    try:
        return version(package)
    except PackageNotFoundError as error:
        what = f"the target {target.name} needs the package {package}"
        raise DeviceError(what, where=str(target.file), hint=install_optional(package)) from error
