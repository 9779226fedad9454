"""What a runtime makes of weights in 8 bits: the graph says float32, ONNX Runtime's default says otherwise."""

from __future__ import annotations

import numpy as np
import onnxruntime

from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.session import load_onnx
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
