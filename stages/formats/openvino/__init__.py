"""Define the format `openvino`: OpenVINO's intermediate representation (IR), made from the ONNX file of the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pipeline.contracts.stage import StageContext, StageResult
from pipeline.records.artifacts import Kind
from pipeline.records.facts import QuantizedFacts
from pipeline.records.metrics import Metric
from pipeline.records.schemes import Quantization
from stages.formats.format import Arrays, Content, FileTensor, FormatSettings, Kernel, LoadedModel
from stages.formats.onnx import ONNX
from stages.formats.openvino.opener import PRECISION, recognises
from stages.formats.openvino.settings import OpenVINOSettings

HEAD_BYTES = 1024


class OpenVINO:
    """Make OpenVINO IR, a graph and a file of its constants, which OpenVINO runs on the CPU."""

    name: ClassVar[str] = "openvino"
    kind: ClassVar[Kind] = "openvino-model"
    settings: ClassVar[type[FormatSettings]] = OpenVINOSettings
    extra_package: ClassVar[str] = "openvino"
    packages: ClassVar[tuple[str, ...]] = (*ONNX.packages, extra_package)
    runtime_packages: ClassVar[tuple[str, ...]] = (extra_package, "numpy")
    metrics: ClassVar[tuple[Metric, ...]] = ()
    made_from: ClassVar[str | None] = ONNX.name
    file_counts: ClassVar[tuple[int, ...]] = (2,)
    imports: ClassVar[tuple[str, ...]] = ONNX.imports
    opener: ClassVar[str] = "stages.formats.openvino.opener"

    def recognises(self, data: Content) -> bool:
        return recognises(bytes(data[:HEAD_BYTES]))

    def beside(self, model: Path) -> tuple[Path, ...]:
        from stages.formats.openvino.ir import data_file

        return (data_file(model),)

    def pinned(self) -> Mapping[str, str]:
        return {"inference_precision": PRECISION}

    def refuses(self, how: Quantization) -> str | None:
        if how.scheme == "dynamic":
            return "OpenVINO has no kernels for ONNX's dynamic quantization: it is slower than float32, and no smaller"
        return ONNX().refuses(how)

    def convert(self, context: StageContext[Any], quantized: QuantizedFacts) -> StageResult:
        from stages.formats.openvino.export import exported

        return exported(context, quantized)

    def load(self, model: bytes | Path, threads: int = 1) -> LoadedModel:
        from stages.formats.openvino.session import load_openvino

        return load_openvino(model, threads)

    def tensors(self, model: bytes | Path, arrays: Arrays) -> Iterator[FileTensor]:
        from stages.formats.openvino.tensors import openvino_tensors

        return openvino_tensors(model, arrays)

    def reads(self, model: bytes | Path) -> list[frozenset[int]]:
        from stages.formats.openvino.ir import graph_of, reads_in
        from stages.formats.openvino.session import path_of

        return reads_in(graph_of(path_of(model)))

    def input_ends(self, data: bytes) -> dict[str, tuple[float, float]]:
        return {}  # inputs are float32 in every scheme

    def small_constants(self, data: bytes) -> Arrays:
        return {}  # they stand in the other file

    def origin(self, model: Path) -> str | None:
        from stages.formats.openvino.ir import graph_of, metadata_in

        return metadata_in(graph_of(model)).get("model")

    def kernels(self, model: Path, name: str, shapes: Mapping[str, Sequence[int]]) -> tuple[list[Kernel], str]:
        from pipeline.system.installed import package_version
        from stages.formats.openvino.kernels import kernels_of

        return kernels_of(model, name, shapes), f"openvino {package_version('openvino')}"

    def operators_in(self, kernels: Sequence[Kernel], model: Path) -> dict[str, list[int]]:
        from stages.formats.openvino.kernels import operators_by_kernel

        return operators_by_kernel(kernels, model)
