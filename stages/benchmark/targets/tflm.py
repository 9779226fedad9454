"""Targets of kind `tflm`: whether TensorFlow Lite for Microcontrollers runs a file, what it computes, and its arena.

The arena is all memory that a microcontroller needs beside the file itself; it is exact. Its kernels here are the
reference ones, so that neither time nor instructions would say anything of a real device.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar, NoReturn

from pydantic import Field

from pipeline.artifacts import Kind
from pipeline.errors import DeviceError
from stages.benchmark.counts import Counts
from stages.benchmark.measurement import OutputDigest
from stages.benchmark.target import (
    TIMEOUT_S,
    Measures,
    Sampling,
    Say,
    Target,
    TargetSettings,
    ending,
    last_lines,
    reported_error,
    run_process,
)

PROCESS = "stages.benchmark.targets.tflm_process"


class TflmSettings(TargetSettings):
    """`arena_limit_bytes` is what the device has: a model that needs more is refused."""

    arena_limit_bytes: int | None = Field(default=None, gt=0)


class TflmDriver:
    """Arena and outputs on the host's build of TFLM."""

    settings: ClassVar[type[TargetSettings]] = TflmSettings
    measures: ClassVar[Measures] = "counts"
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

    def measure(self, target: Target, model: Path, sampling: Sampling, name: str, timeout_s: float) -> NoReturn:
        raise DeviceError(f"{target.name} runs reference kernels on this machine: its times mean nothing", where=name)

    def count(self, target: Target, model: Path, name: str) -> Counts:
        runtime = f"tflite-micro {installed('tflite-micro', target)}"
        done = run_process([sys.executable, "-m", PROCESS, str(model)], name, TIMEOUT_S)
        reported = reported_error(done.stdout)
        if reported is not None:
            what = f"TensorFlow Lite for Microcontrollers can't run this model: {reported}"
            raise DeviceError(what, where=name, hint=last_lines(done.stderr))
        if done.returncode != 0:
            raise DeviceError(f"its process {ending(done.returncode)}", where=name, hint=last_lines(done.stderr))
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
            outputs=tuple(OutputDigest.model_validate_json(json.dumps(output)) for output in document["outputs"]),
        )


def installed(package: str, target: Target) -> str:
    """The version of a package that a target needs; DeviceError with the command that installs it."""
    try:
        return version(package)
    except PackageNotFoundError as error:
        what = f"the target {target.name} needs the package {package}"
        raise DeviceError(what, where=str(target.file), hint=f"pip install {package}") from error
