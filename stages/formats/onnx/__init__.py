"""Convert to ONNX, quantize, and rewrite the graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.contracts.stage import StageContext, StageResult
from pipeline.errors import ModelError
from pipeline.records.artifacts import Kind
from pipeline.records.facts import QuantizedFacts
from pipeline.records.metrics import Metric
from pipeline.records.schemes import FOUR_BIT, Quantization
from stages.formats.format import Arrays, Content, FileTensor, FormatSettings, Kernel, LoadedModel
from stages.formats.onnx.settings import ONNXSettings

if TYPE_CHECKING:
    from stages.formats.cut import Cut
    from stages.formats.probe import Probe, ProbeScheme

GRAPH, LARGEST_FIELD = 7, 25  # of onnx.ModelProto: a required field, and the largest that exists
NO_16_BITS = "ONNX Runtime has no kernels for 16-bit activations on a CPU"
PACKAGES = ("tensorflow", "tf-keras", "tf2onnx", "onnx", "onnxruntime", "protobuf", "numpy")


class ONNX:
    """Export ONNX, which ONNX Runtime runs on the CPU."""

    name: ClassVar[str] = "onnx"
    kind: ClassVar[Kind] = "onnx-model"
    settings: ClassVar[type[FormatSettings]] = ONNXSettings
    packages: ClassVar[tuple[str, ...]] = PACKAGES
    runtime_packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "numpy")
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("transposes", "count", lower_is_better=True),)
    made_from: ClassVar[str | None] = None
    file_counts: ClassVar[tuple[int, ...]] = (1, 2)
    imports: ClassVar[tuple[str, ...]] = (  # the first sets what the others need
        "stages.keras.tensorflow:import_keras",
        "onnxruntime",
        "tf2onnx",
        "stages.formats.onnx.convert",
    )
    opener: ClassVar[str] = "stages.formats.onnx.opener"

    def recognises(self, data: Content) -> bool:
        from stages.formats.onnx.protobuf_fields import fields

        try:
            numbers = {field.number for field in fields(data, 0, len(data))}
        except ValueError:  # not a protobuf message, or a truncated one
            return False
        # A short file of any kind can happen to be a valid message; it then mostly has larger field numbers.
        if max(numbers) > LARGEST_FIELD:
            return False
        if GRAPH not in numbers:
            raise ModelError("the ONNX file holds no graph: it is damaged")
        return True

    def beside(self, model: Path) -> tuple[Path, ...]:
        from stages.formats.onnx.external_data import data_files

        return data_files(model)

    def refuses(self, how: Quantization) -> str | None:
        if how.qat is not None:
            return "ONNX has no operator for the rounding by channel that tfmot trains with (qat)"
        if how.scheme in FOUR_BIT:
            return "4-bit weights are made for TFLite only (by ai-edge-quantizer)"
        if how.scheme == "int16x8":
            return NO_16_BITS
        if how.wants_int16:
            return f"{NO_16_BITS}: such layers would be computed in float and rounded (take keep_float)"
        if how.scheme == "dynamic" and how.granularity == "per_channel":
            return "ONNX Runtime's dynamic convolution has one scale a kernel (granularity: per_tensor)"
        return None

    def convert(self, context: StageContext[Any], quantized: QuantizedFacts) -> StageResult:
        from stages.formats.onnx.export import exported

        return exported(context, quantized)

    def load(self, model: bytes | Path, threads: int = 1) -> LoadedModel:
        from stages.formats.onnx.session import load_onnx

        return load_onnx(model, threads)

    def tensors(self, model: bytes | Path, arrays: Arrays) -> Iterator[FileTensor]:
        from stages.formats.onnx.tensors import onnx_tensors

        return onnx_tensors(model, arrays)

    def reads(self, model: bytes | Path) -> list[frozenset[int]]:
        from stages.formats.onnx.tensors import onnx_reads

        return onnx_reads(model)

    def input_ends(self, data: bytes) -> dict[str, tuple[float, float]]:
        return {}  # inputs are float32 in every scheme

    def small_constants(self, data: bytes) -> Arrays:
        from stages.formats.onnx.tensors import onnx_constants, onnx_graph

        return dict(onnx_constants(onnx_graph(data)))

    def origin(self, model: Path) -> str | None:
        from stages.formats.onnx.origin import keras_digest

        return keras_digest(model)

    def kernels(self, model: Path, name: str, shapes: Mapping[str, Sequence[int]]) -> tuple[list[Kernel], str]:
        from pipeline.system.installed import package_version
        from stages.formats.onnx.kernels import kernels_of

        return kernels_of(model, name, shapes), f"onnxruntime {package_version('onnxruntime')}"

    def operators_in(self, kernels: Sequence[Kernel], model: Path) -> dict[str, list[int]]:
        from stages.formats.onnx.kernels import nodes_of
        from stages.formats.onnx.tensors import onnx_graph

        return nodes_of(kernels, list(onnx_graph(model).graph.node))

    def cuts_of_optimized(self, optimized: bytes) -> Iterator[Cut]:
        from stages.formats.onnx.cuts import onnx_cuts

        return onnx_cuts(optimized)

    def probe_model(self, probe: Probe, scheme: ProbeScheme) -> bytes:
        from stages.formats.onnx.probe_model import onnx_model

        return onnx_model(probe, scheme)
