#!/bin/sh
# Pixels scaled to -1..1 all lie half-way between two steps of the int8 grid that calibration gives their input.
#
# One would guess: two formulas equal but for the last bit, or two runtimes, give an 8-bit input the same codes.
# What happens: calibrated on all pixels from -1 to 1, ONNX Runtime's quantizer takes the scale 2/255. Pixel k then is
# code k - 127.5 of it: every one of the 256 values is a tie, which the last bit of the float decides. x/127.5-1 and
# x*(1/127.5)-1 get other codes, and so do ONNX Runtime and OpenVINO for the same floats; some codes are used twice
# and their neighbors never (215 instead of 256 values). A range wider by one step (2/254) has no ties, and all agree.
# Versions: onnxruntime 1.31.1, onnx 1.23.2, openvino 2026.4.1, numpy 2.4.6. Tried 2026-11-29, CPython 3.11, x86-64
# Linux.
# Seen:
#   calibrated: scale 0.0078431 = 2.00000 / 255, zero point 0
#   as calibrated: formulas differ on 55 of 256 values, runtimes on 39; 215 codes in use
#   one step wider: formulas differ on 0 of 256 values, runtimes on 0; 255 codes in use
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile -qq \
  onnxruntime==1.31.1 onnx==1.23.2 openvino==2026.4.1 numpy==2.4.6
cd "$tmp"
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PYTHON'
import logging
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

logging.disable(logging.WARNING)
pixels = np.arange(256, dtype=np.float32)
divided = pixels / np.float32(127.5) - np.float32(1)
multiplied = pixels * np.float32(1 / 127.5) - np.float32(1)


def saved(nodes, constants, result, path):
    graph = helper.make_graph(
        nodes,
        "pixels",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 256])],
        [helper.make_tensor_value_info("y", result, [1, 256])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


class Pixels(CalibrationDataReader):
    left = [{"x": divided[None]}]

    def get_next(self):
        return self.left.pop() if self.left else None


product = helper.make_node("MatMul", ["x", "w"], ["y"])
saved([product], {"w": np.eye(256, dtype=np.float32)}, TensorProto.FLOAT, "float.onnx")
quantize_static("float.onnx", "int8.onnx", Pixels(), activation_type=QuantType.QInt8, weight_type=QuantType.QInt8)
stored = {item.name: numpy_helper.to_array(item) for item in onnx.load("int8.onnx").graph.initializer}
scale, zero = stored["x_scale"], stored["x_zero_point"]
print(f"calibrated: scale {float(scale):.7f} = {float(scale) * 255:.5f} / 255, zero point {int(zero)}")


def codes(scale):  # of both formulas in ONNX Runtime, of the first in OpenVINO
    quantize = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])
    saved([quantize], {"scale": scale, "zero": zero}, TensorProto.INT8, "codes.onnx")
    run = onnxruntime.InferenceSession("codes.onnx").run
    other = openvino.Core().compile_model("codes.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return run(None, {"x": divided[None]})[0], run(None, {"x": multiplied[None]})[0], other(divided[None])[0]


counts = []
for name, step in (("as calibrated", scale), ("one step wider", np.array(2 / 254, np.float32))):
    first, second, third = codes(step)
    formulas, runtimes, used = int((first != second).sum()), int((first != third).sum()), len(set(first[0].tolist()))
    counts.append((formulas, runtimes, used))
    print(f"{name}: formulas differ on {formulas} of 256 values, runtimes on {runtimes}; {used} codes in use")
(formulas, runtimes, used), wider = counts
if not (formulas >= 20 and runtimes >= 10 and used < 240 and wider[:2] == (0, 0)):  # the CPU decides how many
    sys.exit("CHANGED: pixels no longer lie on ties, or they are decided alike")
PYTHON
