"""Targets of kind `tflm`: whether TensorFlow Lite for Microcontrollers runs a file, what it computes, and its arena.

The arena is all memory that a microcontroller needs beside the file itself; it is exact. Its kernels here are the
reference ones, so that neither time nor instructions would say anything of a real device.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from pipeline.artifacts import Kind
from pipeline.command_lines import install
from pipeline.errors import DeviceError
from stages.benchmark.counts import Counts
from stages.benchmark.measurement import digests_of
from stages.benchmark.target import Say, Target, TargetSettings
from stages.processes import TIMEOUT_S, require_success, run_process

PROCESS = "stages.benchmark.targets.tflm_process"


class TflmSettings(TargetSettings):
    """`arena_limit_bytes` is what the device has: a model that needs more is refused."""

    arena_limit_bytes: int | None = Field(default=None, gt=0)


class TflmDriver:
    """Arena and outputs on the host's build of TFLM."""

    settings: ClassVar[type[TargetSettings]] = TflmSettings
    metrics: ClassVar[tuple[str, ...]] = (
        "arena_bytes",
        "arena_ratio",
        "baseline_arena_bytes",
        "arena_head_bytes",
        "arena_tail_bytes",
        "size_bytes",
    )
    formats: ClassVar[tuple[Kind, ...]] = ("tflite-model",)

    def fingerprint(self, target: Target) -> dict[str, str]:
        limit = target.settings.arena_limit_bytes
        return {"tflite-micro": installed("tflite-micro", target)} | ({"arena_limit": str(limit)} if limit else {})

    def set_up(self, target: Target, say: Say) -> None:
        say(f"tflite-micro {installed('tflite-micro', target)} is installed: nothing more to set up")

    def count(self, target: Target, model: Path, name: str) -> Counts:
        runtime = f"tflite-micro {installed('tflite-micro', target)}"
        done = run_process([sys.executable, "-m", PROCESS, str(model)], name, TIMEOUT_S)
        require_success(done, name, "TensorFlow Lite for Microcontrollers", "can't run this model")
        document = json.loads(done.stdout)
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


def installed(package: str, target: Target) -> str:
    """The version of a package that a target needs; DeviceError with the command that installs it."""
    try:
        return version(package)
    except PackageNotFoundError as error:
        what = f"the target {target.name} needs the package {package}"
        raise DeviceError(what, where=str(target.file), hint=install(package)) from error
