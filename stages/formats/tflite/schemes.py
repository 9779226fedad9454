"""Configure schemes in TFLite: what the converter does, and what ai-edge-quantizer does after it.

The converter quantizes float16, dynamic, int8 and int16x8: its int8 lost less of ResNet-8's accuracy than that of
ai-edge-quantizer (81.35 % compared with 80.55 %, Keras 82.05 %). It has no scheme that stores weights in 8 bits and
computes in float, and its dynamic one can't leave out individual operators, nor give depthwise kernels one scale a
channel where others have one: there, and in 4 bits, ai-edge-quantizer takes its float32 file.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline.records.schemes import FOUR_BIT, Quantization
from pipeline.system.quiet import quiet
from stages.formats.calibration.choice import Chose
from stages.formats.format import Arrays
from stages.formats.layers.operators import operators_of
from stages.formats.tflite.four_bits import add_four_bits, repaired, scope_of
from stages.formats.tflite.native_ends import refuse_operators
from stages.formats.tflite.range_methods import put_best_ranges, put_ranges
from stages.formats.tflite.ranges import Ranges
from stages.formats.tflite.sixteen_bits import with_sixteen_bits
from stages.formats.weight_types import tflite_weights
from stages.keras.types import KerasModel

if TYPE_CHECKING:
    from tensorflow import DType
    from tensorflow.compiler.mlir.lite.debug.debug_options_pb2 import DebugOptions
    from tensorflow.lite.python.lite import TFLiteConverterV2 as TFLiteConverter

# The converter's limit of 1,024 elements is fixed in C++ (https://github.com/tensorflow/tensorflow/issues/53094).
MOST_LEFT = 0.1  # of the weights, in float32 in a dynamic file


def configure(tf: ModuleType, converter: TFLiteConverter, how: Quantization, io: str) -> None:
    """Configure what the converter does itself."""
    if how.scheme == "float32" or by_edge_quantizer(how):
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_disable_per_channel = how.granularity == "per_tensor"  # noqa: SLF001 - no public switch
    if how.scheme == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if how.calibrated:
        sets = tf.lite.OpsSet
        wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [wide if how.scheme == "int16x8" else sets.TFLITE_BUILTINS_INT8]
        dtype = {"int8": tf.int8, "int16": tf.int16, "float32": tf.float32}[io]
        converter.inference_input_type = converter.inference_output_type = dtype


def between_calibration_and_quantization(
    converter: TFLiteConverter, how: Quantization, model: KerasModel, calibration: Arrays, chose: Chose
) -> None:
    """Quantize to int8 in the converter with ranges as asked for, but not the operators of layers that `how` keeps.

    Those of `how.keep_float` stay in float32, those of `how.keep_int16` get 16-bit activations afterwards. `chose`
    hears which method `calibration: auto` took.

    Its quantizer accepts names of operators to leave out, though only its debugger passes any, and ranges from the
    file: so its step between calibration and quantization is taken here.
    """
    step = converter._quantize  # noqa: SLF001

    def selective(
        result: bytes,
        input_type: DType,
        output_type: DType,
        activations: DType,
        bias: DType,
        floats: bool,
        variables: bool,
        debug: DebugOptions,
    ) -> bytes:
        from tensorflow.lite.python.convert import mlir_quantize

        # Makes `_quantize` return the calibrated float32 file, with ranges beside the tensors.
        converter._experimental_calibrate_only = True  # noqa: SLF001
        ranges = Ranges(bytes(step(result, input_type, output_type, activations, bias, floats, variables, debug)))
        sample = {name: samples[:1] for name, samples in calibration.items()}
        file = ranges.data
        kept = _names_of(how.keep_float, model, file, sample)
        sixteen = [name for name in _names_of(how.keep_int16, model, file, sample) if name not in kept]
        names = [*kept, *sixteen] or None

        def quantize(calibrated: bytes) -> bytes:
            made: bytes = mlir_quantize(
                calibrated,
                disable_per_channel=how.granularity == "per_tensor",
                input_data_type=input_type,
                output_data_type=output_type,
                denylisted_nodes=names,
                enable_variable_quantization=variables,
                debug_options_str=debug.SerializeToString(),
            )
            return made

        def runnable(calibrated: bytes) -> bytes:
            made = quantize(calibrated)
            refuse_operators(model, made, model.name)  # before LiteRT sees the file: it would end the process
            return made

        if how.calibration == "auto":
            chose(put_best_ranges(ranges, how, calibration, runnable))
        else:
            put_ranges(ranges, how, calibration)
        made = quantize(ranges.data)
        return with_sixteen_bits(made, sixteen, calibration) if sixteen else made

    converter._quantize = selective  # noqa: SLF001


def _names_of(layers: Sequence[str], model: KerasModel, data: bytes, sample: Arrays) -> list[str]:
    """Return the names of the operators of float32 file `data` that compute `layers` of `model`."""
    return _names(data, operators_of(layers, model, "tflite-model", data, sample)) if layers else []


def by_edge_quantizer(how: Quantization) -> bool:
    """Return whether ai-edge-quantizer takes the converter's float32 file."""
    settings = bool(how.keep_float) or how.granularity == "per_tensor"
    return how.scheme in ("weight_only", *FOUR_BIT) or (how.scheme == "dynamic" and settings)


def leaves_small_kernels(data: bytes) -> bool:
    """Return whether the converter's dynamic file has much float32: TensorFlow 2.21 skips kernels below 1,024 weights.

    Pruned networks have many such kernels. ai-edge-quantizer takes them all, and is no less accurate on those that both
    take.
    """
    counts = tflite_weights(data)
    return counts.get("float32", 0) > MOST_LEFT * sum(counts.values())


def quantize_weights(data: bytes, how: Quantization, model: KerasModel) -> bytes:
    """Store weights of a float32 TFLite file in 8 or 4 bits; a random sample shows which operators stay in float."""
    import numpy as np

    from stages.keras.normal_form import random_inputs

    with quiet():
        from ai_edge_quantizer import Quantizer, qtyping

    every = qtyping.TFLOperationName.ALL_SUPPORTED
    granularity = qtyping.QuantGranularity
    quantizer = Quantizer(bytearray(data))
    dynamic = how.scheme in ("dynamic", "int4_dynamic")
    add = quantizer.add_dynamic_config if dynamic else quantizer.add_weight_only_config
    per_tensor = how.granularity == "per_tensor"
    add(".*", every, num_bits=8, granularity=granularity.TENSORWISE if per_tensor else granularity.CHANNELWISE)
    if dynamic:
        # Of a depthwise kernel with one scale LiteRT 2.3.0 reads one a channel, beyond the end.
        kind = qtyping.TFLOperationName.DEPTHWISE_CONV_2D
        add(".*", kind, num_bits=8, granularity=granularity.CHANNELWISE)
    if how.scheme in FOUR_BIT:
        add_four_bits(quantizer, how, data)
    if how.keep_float:
        sample = dict(zip(model.input_names, random_inputs(model, samples=1), strict=True))
        for name in _names_of(how.keep_float, model, data, sample):
            # After the rule for all: of several that match, the last one wins.
            quantizer.update_quantization_recipe(scope_of(name), every, algorithm_key="no_quantize")
    # It prints what it saved, and divides by the scale of channels of zeros.
    with redirect_stdout(io.StringIO()), np.errstate(divide="ignore", invalid="ignore"):
        made = bytes(quantizer.quantize().quantized_model)
    return repaired(made)


def _names(data: bytes, operators: frozenset[int]) -> list[str]:
    """Return the names of operators at these places, which are those of their output tensors."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(model.SignatureDefs(0).SubgraphIndex())
    outputs = [int(index) for operator in sorted(operators) for index in graph.Operators(operator).OutputsAsNumpy()]
    return [graph.Tensors(index).Name().decode() for index in outputs]
