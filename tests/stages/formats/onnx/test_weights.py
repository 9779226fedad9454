"""What a runtime makes of weights in 8 bits: the graph says float32, ONNX Runtime's default says otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime

from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.session import load_onnx
from stages.formats.onnx.weights import store_weights_in_int8
from stages.keras.tensorflow import import_keras


def test_dense_layers_round_their_inputs_unless_the_session_is_told_not_to() -> None:
    """ONNX Runtime 1.31.1 makes MatMulNBits of them (findings/onnxruntime_weight_only_rounds_activations.sh)."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    inputs = keras.Input((64,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(96, name="y")(inputs))
    data = convert_onnx(model, "weight_only")
    x = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    exact = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    written = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    scale = np.abs(written).max()
    assert np.abs(exact - written).max() < 1e-5 * scale
    assert 1e-4 * scale < np.abs(load_onnx(data).run({"x": x})["y"] - written).max() < 2e-2 * scale


def test_weights_in_8_bits_are_off_by_half_a_step_at_most(tiny_xception: Any) -> None:
    model = onnx.load_from_string(convert_onnx(tiny_xception, "float32"))
    small = store_weights_in_int8(model, per_channel=True)
    before = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    after = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in small.graph.initializer}
    casts = [node for node in small.graph.node if node.op_type == "DequantizeLinear"]
    assert len(casts) == 4
    for node in casts:
        kernel, scale = after[node.input[0]].astype(np.float32), after[node.input[1]]
        axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
        shape = [-1 if n == axis else 1 for n in range(kernel.ndim)]
        error = np.abs(kernel * scale.reshape(shape) - before[node.output[0]])
        assert (error <= scale.reshape(shape) * 0.5001).all()
        assert error.max() > 0
