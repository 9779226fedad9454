#!/bin/sh
# Resize by scales: the standard's evaluator and ONNX Runtime give images of different size for one file.
#
# One would guess: output sizes of a valid ONNX file follow from the file; floor(size x scale) is the standard's
# formula.
# What happens: 13/9 rounded to float32 is a little below 13/9. ONNX Runtime multiplies in float32 (9 x 13/9 = 13),
# onnx's shape inference and reference evaluator in more digits (12.9999998, floor 12). So 9x7 -> 13x11 is 12x10 for
# these, and a file that declares what shape inference found has another shape in ONNX Runtime, which warns. Two in
# five of other ratios differ as well. Give sizes, not scales.
# Versions: onnx 1.23.2, onnxruntime 1.31.1, numpy 2.4.6. Tried 2026-11-29, CPython 3.11, x86-64 Linux.
# Seen:
#   9x7: wanted 13x11, ONNX Runtime 13x11, reference evaluator 12x10, shape inference 12x10
#   51 of 122 other ratios differ as well
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


def sizes(height, width, to_height, to_width):
    scales = np.float32([1, 1, to_height / height, to_width / width])
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, height, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "height", "width"])],
        [numpy_helper.from_array(scales, "scales")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    image = {"x": np.zeros((1, 1, height, width), np.float32)}
    inferred = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape.dim
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return {
        "wanted": (to_height, to_width),
        "ONNX Runtime": onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, image)[0].shape[2:],
        "reference evaluator": ReferenceEvaluator(model).run(None, image)[0].shape[2:],
        "shape inference": (inferred[2].dim_value, inferred[3].dim_value),
    }


found = sizes(9, 7, 13, 11)
print("9x7: " + ", ".join(f"{who} {size[0]}x{size[1]}" for who, size in found.items()))
pairs = [(small, large) for small in range(2, 40, 4) for large in range(small + 1, 80, 5)]
others = [sizes(small, small, large, large) for small, large in pairs]
differ = sum(one["ONNX Runtime"] != one["reference evaluator"] for one in others)
print(f"{differ} of {len(pairs)} other ratios differ as well")
rest = (found["reference evaluator"], found["shape inference"])
if not (found["ONNX Runtime"] == (13, 11) and rest == ((12, 10), (12, 10)) and differ > 0):
    sys.exit("CHANGED: they agree on sizes, or differ otherwise")
PYTHON
