"""Implement third-party stages, on the artifact of a third-party format."""

from __future__ import annotations

from typing import Any, ClassVar

from pipeline.contracts.stage import Axis, Input, StageConfig, StageResult
from pipeline.errors import PostconditionError
from pipeline.records.artifacts import Artifact
from pipeline.records.metrics import Metric
from toy_format.facts import ToyFacts, ToyReport


class CountConfig(StageConfig):
    """Hold no settings."""


class CountStage:
    name: ClassVar[str] = "toy_count"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = CountConfig
    inputs: ClassVar[dict[str, Input]] = {"export": Input(("toy-model",))}
    outputs: ClassVar[tuple[str, ...]] = ("toy-report",)
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("toy_weights", "count", lower_is_better=True),
        Metric("toy_zeros", "count", lower_is_better=None),
    )
    packages: ClassVar[tuple[str, ...]] = ("numpy",)

    def splits(self, config: Any) -> tuple[str, ...]:
        return ()

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


class RoundConfig(StageConfig):
    """Set how many decimals the weights keep."""

    decimals: int = 5


class RoundStage:
    """Round the weights of a toy file; the Keras model that it comes from tells how many there are."""

    name: ClassVar[str] = "toy_round"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = RoundConfig
    inputs: ClassVar[dict[str, Input]] = {
        "export": Input(("toy-model",)),
        "model": Input(("keras-model",), of="ancestor"),
    }
    outputs: ClassVar[tuple[str, ...]] = ("toy-model",)
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ("numpy",)

    def splits(self, config: Any) -> tuple[str, ...]:
        return ()

    def requires(self, config: Any, inputs: Any) -> None:
        return None

    def run(self, context: Any) -> StageResult:
        import io

        import numpy as np

        with np.load(context.read("export", "model.npz"), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        decimals, weights = context.config.decimals, {n: a for n, a in arrays.items() if a.dtype.kind == "f"}
        if sum(array.size for array in weights.values()) != context.inputs["model"].facts.params:
            raise PostconditionError("the file does not hold the model's weights")
        buffer = io.BytesIO()
        np.savez(buffer, **{**arrays, **{name: array.round(decimals) for name, array in weights.items()}})
        facts = ToyFacts.model_validate(context.inputs["export"].facts.model_dump())
        file_ref = context.write("model.npz", buffer.getvalue(), "application/x-npz")
        return StageResult((Artifact(files=(file_ref,), facts=facts),))

    def ensures(self, context: Any, result: StageResult) -> None:
        return None
