#!/bin/sh
# ONNX Runtime's per-channel quantizer loses the bias of a filter of zeros.
#
# One would guess: a filter of zeros has nothing to quantize, so its channel gives its bias, as in float32.
# What happens: the filter gets the scale 1.0. A bias is stored in whole steps of input scale x filter scale, which is
# then the whole input scale, so that a bias below half of it becomes 0. With one scale per tensor it stays.
# Structured pruning that zeroes filters, and dead ReLUs, make such filters; raw sensor values make such inputs.
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6. Tried 2026-11-29, CPython 3.11, x86-64 Linux.
# Seen:
#   float32: the channel of zeros gives 80.0
#   per tensor: scale of its weights 3.66e-05, bias 11149 steps, gives 82.4 (step 5.5)
#   per channel: scale of its weights 1, bias 0 steps, gives 0.0 (step 5.5)
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile -qq onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cd "$tmp"
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PYTHON'
import logging
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

logging.disable(logging.WARNING)
draw = np.random.default_rng(0)
kernel = draw.normal(0, 0.002, (4, 3, 3, 3)).astype(np.float32)
kernel[2] = 0
bias = np.float32([10, 20, 80, 30])
samples = [draw.uniform(0, 50000, (1, 3, 8, 8)).astype(np.float32) for _ in range(4)]
graph = helper.make_graph(
    [helper.make_node("Conv", ["x", "kernel", "bias"], ["y"])],
    "one_convolution",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])],
    [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(bias, "bias")],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "float.onnx")


class Samples(CalibrationDataReader):
    def __init__(self):
        self.left = [{"x": sample} for sample in samples]

    def get_next(self):
        return self.left.pop() if self.left else None


def third_channel(path):
    return float(onnxruntime.InferenceSession(path).run(None, {"x": samples[0]})[0][0, 2].mean())


print(f"float32: the channel of zeros gives {third_channel('float.onnx'):.1f}")
given = {}
for per_channel in (False, True):
    quantize_static("float.onnx", "int8.onnx", Samples(), per_channel=per_channel, weight_type=QuantType.QInt8)
    stored = {item.name: numpy_helper.to_array(item) for item in onnx.load("int8.onnx").graph.initializer}
    scale = np.broadcast_to(stored["kernel_scale"], 4)[2]
    steps = int(stored["bias_quantized"][2])
    given[per_channel] = third_channel("int8.onnx")
    step = float(stored["y_scale"])
    where = "per channel" if per_channel else "per tensor"
    told = f"gives {given[per_channel]:.1f} (step {step:.1f})"
    print(f"{where}: scale of its weights {scale:.3g}, bias {steps} steps, {told}")
if not (abs(given[False] - 80) < 5 and given[True] == 0 and scale == 1.0 and steps == 0):
    sys.exit("CHANGED: the bias of a filter of zeros is no longer lost per channel only")
PYTHON
