"""Convert a float32 ONNX graph to the other schemes.

Each function takes a model in normal form and returns a new one. ONNX Runtime's quantizer computes the numbers; chosen
here is what its CPU kernels compute correctly on every machine. Tensors of large models are external, in files of a
folder.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline.errors import PreconditionError
from pipeline.records.schemes import Quantization
from stages.formats.calibration.choice import Chose, unchosen
from stages.formats.format import Arrays
from stages.formats.onnx.closing import closing_nodes
from stages.formats.onnx.overrides import weight_overrides
from stages.formats.onnx.range_choice import best_ranges
from stages.formats.onnx.ranges import Measured, measure_ranges
from stages.formats.onnx.tensor_data import has_data_outside
from stages.keras.types import KerasModel
from stages.samples.batches import Progress

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

FEW_CHANNELS, MOST_OF_FIRST = 3, 0.25  # a first convolution stays in float32 up to both
MOST_OF_LAST = 0.05  # of the weights, up to which a last dense layer does
DENSE = frozenset({"Gemm", "MatMul"})
ARRANGING = frozenset({"Pad", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})  # what may stand before that
ACTIVATIONS = frozenset({"Clip", "LeakyRelu", "Relu"})  # what ONNX Runtime fuses into a convolution in float32
Told = Callable[[str], None]  # receives notes on what differs from the request


def untold(note: str) -> None:
    """Ignore the note."""


def store_weights_in_half(model: ModelProto, folder: Path | None = None) -> ModelProto:
    """Store kernels as float16 and cast them up before use, like TFLite's float16.

    Runtimes fold the casts when they load: half the file size, the speed of float32, and no activation can overflow.
    Vectors (biases) and weights beyond float16's range are unchanged.
    """
    import numpy as np
    import onnx

    half: ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    casts = []
    for tensor in half.graph.initializer:
        # One after the other, so that a model of two files is never in memory as float32 as a whole.
        values = onnx.numpy_helper.to_array(tensor, str(folder or ""))
        if values.dtype != np.float32 or values.ndim < 2 or np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(half.graph.node)
    del half.graph.node[:]
    # In front: nodes of an ONNX file have to stand after what they read.
    half.graph.node.extend([*casts, *nodes])
    return half


def kept_nodes(
    model: ModelProto, how: Quantization, keras_model: KerasModel, calibration: Arrays, folder: Path
) -> list[str]:
    """Return the names of the nodes of float32 `model` that compute the layers which `how` keeps in float."""
    if not how.keep_float:
        return []
    from stages.formats.layers.operators import operators_of
    from stages.keras.normal_form import random_inputs

    sample = {name: values[:1] for name, values in calibration.items()}
    sample = sample or dict(zip(keras_model.input_names, random_inputs(keras_model, samples=1), strict=True))
    path = folder / "float.onnx"  # next to the data of its tensors
    path.write_bytes(model.SerializeToString())
    places = operators_of(how.keep_float, keras_model, "onnx-model", path, sample)
    return [model.graph.node[index].name for index in sorted(places)]


def quantize_while_running(model: ModelProto, folder: Path, kept: Sequence[str] = ()) -> ModelProto:
    """Store weights in 8 bits and quantize activations at each inference.

    Both choices are for speed. On the demo's network (AVX2, one thread, p50) signed weights and all convolutions, ONNX
    Runtime's defaults, took 1.9 ms; unsigned ones 1.2 ms; unsigned without depthwise convolutions, whose ConvInteger is
    slow and whose weights are few, 0.3 ms. Float32 takes 0.2 to 0.3 ms: this scheme is for size. Cosines to Keras were
    between 0.9993 and 0.9996 in all of them.
    """
    quantization = _import_quantization()
    constant = {tensor.name for tensor in model.graph.initializer}
    left_out = [
        n.name for n in model.graph.node if n.op_type == "Conv" and (_groups(n) > 1 or n.input[1] not in constant)
    ]

    def quantize(source: Path, target: Path) -> None:
        quantization.quantize_dynamic(
            source,
            target,
            weight_type=quantization.QuantType.QUInt8,
            nodes_to_exclude=[*left_out, *kept],
            use_external_data_format=has_data_outside(model),
        )

    return _through_files(quantize, model, folder)


def quantize_activations(
    model: ModelProto,
    how: Quantization,
    calibration: Arrays,
    progress: Progress,
    folder: Path,
    kept: Sequence[str] = (),
    told: Told = untold,
    chose: Chose = unchosen,
) -> ModelProto:
    """Quantize weights and activations to 8 bits (QDQ): U8S8, or S8S8 if signed. Nodes in `kept` stay float.

    Unsigned by default: with signed ones ONNX Runtime leaves additions, and convolutions next to a shared ReLU, in
    float between conversions. On x86 ResNet-8 took 0.45 of the time and the demo's network 0.56; networks without
    additions the same. On a Cortex-A72 all took 1 to 5 % fewer instructions.

    Weights use 7 of the 8 bits (`reduce_range`): x86 processors without VNNI add pairs of byte products in 16 bits,
    which saturate. On such a machine the demo's network reached a mean cosine of 0.988 to Keras and 0.932 accuracy with
    all 8 bits, 0.9996 and 0.939 with 7 (Keras: 0.9395). A first convolution and a last dense layer may stay in
    float32, where integer kernels don't pay (`first_convolutions`, `last_layers`).
    """
    if not calibration or not len(next(iter(calibration.values()))):
        raise PreconditionError("int8 needs calibration samples", where="onnx/int8")
    quantization, large = _import_quantization(), has_data_outside(model)
    left_out = [*first_convolutions(model), *last_layers(model), *kept]

    def quantize(source: Path, target: Path) -> None:
        # The quantizer reads its ranges from a file here. It would otherwise calibrate itself, on all samples at once.
        ranges = source.with_suffix(".ranges")

        def quantize_with(measured: Measured, made: Path) -> list[str]:
            per_channel = how.granularity != "per_tensor"
            overrides, notes = weight_overrides(model, measured.ranges, folder, per_channel=per_channel)
            settings = {"calibrate_method": measured.method, "calibration_cache_path": ranges}
            settings |= {"nodes_to_exclude": left_out, "use_external_data_format": large}
            settings |= {"extra_options": {"TensorQuantOverrides": overrides} if overrides else None}
            quantization.quantize_static(source, made, None, **_kinds_of_numbers(quantization, how), **settings)
            return notes

        if how.calibration == "auto":
            measured, choice = best_ranges(
                quantization, source, how, calibration, progress, ranges, quantize_with, large=large
            )
            chose(choice)
        else:
            measured = measure_ranges(quantization, source, how, calibration, progress, ranges, large=large)
        for note in quantize_with(measured, target):
            told(note)

    return _through_files(quantize, model, folder)


def _kinds_of_numbers(quantization: ModuleType, how: Quantization) -> dict[str, Any]:
    """Return the settings of `quantize_static` that `quantize_activations` gives the reasons for."""
    kinds = quantization.QuantType
    return {
        "quant_format": quantization.QuantFormat.QDQ,
        "activation_type": kinds.QInt8 if how.activations == "signed" else kinds.QUInt8,
        "weight_type": kinds.QInt8,
        "per_channel": how.granularity != "per_tensor",
        # Upstream says the same of kernels with a scale per channel:
        # https://github.com/microsoft/onnxruntime/issues/12072.
        "reduce_range": True,
    }


def first_convolutions(model: ModelProto) -> list[str]:
    """Return the names of convolutions that read an input of up to 3 channels, with their activations.

    ONNX Runtime's integer kernels take channels in groups, so that of so few most is padding, and it must quantize the
    input first. In float32 such a file takes, of the int8 file's time on this x86 (VNNI, one thread), 0.84 (the demo's
    network), 0.96 (ResNet-8), 0.97 (visual wake words) and 0.84 (keyword spotting); 0.87 of the demo's instructions on
    a Cortex-A72. One that holds more than a quarter of the weights is quantized: it would make the file larger.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    kernels = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    most = MOST_OF_FIRST * _count_weights(model)

    def starts(name: str) -> bool:
        while name in makers and makers[name].op_type in ARRANGING:
            name = makers[name].input[0]
        return name not in makers and name not in kernels

    def is_small(kernel: str) -> bool:
        return kernel in kernels and kernels[kernel][1] <= FEW_CHANNELS and math.prod(kernels[kernel]) <= most

    convolutions = [node for node in model.graph.node if node.op_type == "Conv" and _groups(node) == 1]
    first = [node for node in convolutions if is_small(node.input[1]) and starts(node.input[0])]
    made = {output for node in first for output in node.output}
    after = [node for node in model.graph.node if node.op_type in ACTIVATIONS and node.input[0] in made]
    return [node.name for node in (*first, *after)]


def last_layers(model: ModelProto) -> list[str]:
    """Return the names of closing softmaxes and sigmoids, and of a dense layer behind which only they stand.

    What follows such a layer wants float32 anyway, and QGemm takes 10 µs where Gemm takes 3 (1.31.1, x86): with it in
    float32 the file takes 0.85 (the demo's network) and 0.90 (keyword spotting) of its time. One that holds more than a
    twentieth of the weights is quantized.
    """
    outputs = {value.name for value in model.graph.output}
    closing = list(closing_nodes(model.graph).values())
    ends = outputs | {node.input[0] for node in closing}
    most = MOST_OF_LAST * _count_weights(model)
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    dense = [
        node
        for node in model.graph.node
        if node.op_type in DENSE and ends & set(node.output) and sizes.get(node.input[1], most + 1) <= most
    ]
    return [node.name for node in (*closing, *dense)]


def _count_weights(model: ModelProto) -> int:
    return sum(math.prod(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) > 1)


def _through_files(quantize: Callable[[Path, Path], None], model: ModelProto, folder: Path) -> ModelProto:
    """Return the quantizer's result. It gets a file: given a model, it moves the weights out into another file.

    The file is written to `folder`, which holds the external data.
    """
    import onnx
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    source, target = folder / "source.onnx", folder / "target.onnx"
    # The quantizer needs the element types of tensors between nodes, which the normal form leaves out.
    prepared = onnx.shape_inference.infer_shapes(model)
    add_pre_process_metadata(prepared)  # it was folded already; without this mark a warning says it was not
    onnx.save(prepared, source)
    with redirect_stdout(io.StringIO()):  # calibrators print
        quantize(source, target)
    result = onnx.load(target)
    result.producer_name, result.producer_version = model.producer_name, model.producer_version
    return result


def _import_quantization() -> ModuleType:
    """Import `onnxruntime.quantization`, without the folder of scripts that its import adds to `sys.path`."""
    path = list(sys.path)
    from onnxruntime import quantization

    # `onnxruntime.transformers` appends its own folder, whose modules have names as common as `fusion_utils` and
    # `benchmark`.
    sys.path[:] = path
    return quantization  # type: ignore[no-any-return]


def _groups(node: NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
