#!/bin/sh
# ONNX Runtime moves a Pad of zeros into the MaxPool after it, where zeros never win.
#
# One would guess: graph optimizations keep a float32 network's numbers to the last digits.
# What happens: Pad (zeros) -> MaxPool becomes one MaxPool with pads, and by the standard a MaxPool's own padding
# never wins. Where all values of a window are negative, the graph gives 0 and the optimized one the greatest negative
# number. The default options do so, and so does ORT_ENABLE_BASIC, with which folded files are saved. Keras' ResNetV2
# has this pair.
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6. Tried 2026-11-29, CPython 3.11, x86-64 Linux.
# Seen:
#   the standard's evaluator: [0.0, 0.0, 0.0, -6.0]
#   optimizations off: [0.0, 0.0, 0.0, -6.0] by ['Pad', 'MaxPool']
#   basic: [-1.0, -2.0, -5.0, -6.0] by ['MaxPool']
#   default options: [-1.0, -2.0, -5.0, -6.0]
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile -qq onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cd "$tmp"
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

pads = np.int64([0, 0, 1, 1, 0, 0, 1, 1])
graph = helper.make_graph(
    [
        helper.make_node("Pad", ["x", "pads"], ["padded"], mode="constant"),
        helper.make_node("MaxPool", ["padded"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
    ],
    "pad_and_pool",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 2, 2])],
    [numpy_helper.from_array(pads, "pads")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model)
image = -np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)


def optimized(level, saved):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = saved
    options.log_severity_level = 3
    found = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": image})[0]
    return found.ravel().tolist(), [node.op_type for node in onnx.load(saved).graph.node]


levels = onnxruntime.GraphOptimizationLevel
right = ReferenceEvaluator(model).run(None, {"x": image})[0].ravel().tolist()
plain, nodes = optimized(levels.ORT_DISABLE_ALL, "plain.onnx")
basic, fused = optimized(levels.ORT_ENABLE_BASIC, "basic.onnx")
default = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": image})[0].ravel().tolist()
print(f"the standard's evaluator: {right}")
print(f"optimizations off: {plain} by {nodes}")
print(f"basic: {basic} by {fused}")
print(f"default options: {default}")
if not (plain == right and basic == default == [-1.0, -2.0, -5.0, -6.0] and fused == ["MaxPool"]):
    sys.exit("CHANGED: the optimized graph no longer differs as it did")
PYTHON
