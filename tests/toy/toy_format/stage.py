"""Implement a third-party stage, on the artifact of a third-party format."""

from __future__ import annotations

from typing import Any, ClassVar

from pipeline.contracts.stage import Input, StageConfig, StageResult
from pipeline.errors import PostconditionError
from pipeline.records.artifacts import Artifact
from toy_format.facts import ToyReport


class CountConfig(StageConfig):
    """Hold no settings."""


class CountStage:
    name: ClassVar[str] = "toy_count"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = CountConfig
    inputs: ClassVar[dict[str, Input]] = {"export": Input(("toy-model",))}
    outputs: ClassVar[tuple[str, ...]] = ("toy-report",)
    axis: ClassVar[str | None] = None
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = ("toy_weights", "toy_zeros")
    packages: ClassVar[tuple[str, ...]] = ("numpy",)

    def splits(self, config: Any) -> tuple[str, ...]:
        return ()

    def unsupported(self, axis: str) -> str | None:
        return None

    def requires(self, config: Any, inputs: Any) -> None:
        return None

    def run(self, context: Any) -> StageResult:
        import numpy as np

        with np.load(context.read("export", "model.npz"), allow_pickle=False) as file:
            kernels = [file[name] for name in file.files if name.startswith("kernel")]
        found = ToyReport(weights=sum(k.size for k in kernels), zeros=sum(int((k == 0).sum()) for k in kernels))
        metrics = {"toy_weights": float(found.weights), "toy_zeros": float(found.zeros)}
        return StageResult((Artifact(files=(), facts=found),), metrics)

    def ensures(self, context: Any, result: StageResult) -> None:
        if not result.metrics["toy_weights"]:
            raise PostconditionError("a toy without weights")
