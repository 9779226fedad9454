#!/bin/sh
# OpenVINO turns an ONNX file's float16 weights into float32, also where it is told not to change them.
#
# One would guess: `save_model(..., compress_to_fp16=False)` keeps constants as the model that was read has them, so that
# an ONNX file whose weights are float16 behind a Cast becomes an IR with float16 weights behind a Convert.
# What happens: `convert_model` folds the Cast into the constant while it reads the file. What is saved holds float32
# and is as large as the IR of the float32 file; no Convert is left. `compress_to_fp16=True`, the default, stores
# float16, and of the float32 file as well.
# `Core.read_model` keeps the float16 constants, so that saving what it reads gives the small file.
# Versions: openvino 2026.4.1, onnx 1.23.0, numpy 2.4.6. Tried 2026-11-30, CPython 3.11, x86-64 Linux.
# Seen:
#   convert_model: 4.00 bytes a weight, 0 Convert
#   read_model: 2.00 bytes a weight, 1 Convert
#   half.onnx: 2.00 bytes a weight
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile --no-deps -qq \
  openvino==2026.4.1 onnx==1.23.0 numpy==2.4.6 protobuf==7.36.2 ml_dtypes==0.6.0 typing_extensions==4.16.0
cd "$tmp"
venv/bin/python - 2>stderr <<'PYTHON' || { tail -n 5 stderr; exit 1; }
import sys
from pathlib import Path

import numpy as np
import openvino as ov
from onnx import TensorProto, helper, numpy_helper, save

ROWS, COLUMNS = 256, 512
weights = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float16)
ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, s)) for n, s in (("x", ROWS), ("y", COLUMNS))]
nodes = [
    helper.make_node("Cast", ["half"], ["kernel"], to=TensorProto.FLOAT),
    helper.make_node("MatMul", ["x", "kernel"], ["y"]),
]
graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weights, "half")])
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "half.onnx")


def saved(name, model, **settings):
    """Bytes of the constants, by how many each weight takes, and the Converts in the graph."""
    ov.save_model(model, f"{name}.xml", **settings)
    kinds = [op.get_type_name() for op in ov.Core().read_model(f"{name}.xml").get_ops()]
    size = Path(f"{name}.bin").stat().st_size
    print(f"{name}: {size / weights.size:.2f} bytes a weight, {kinds.count('Convert')} Convert")
    return size / weights.size


converted = saved("convert_model", ov.convert_model("half.onnx"), compress_to_fp16=False)
read = saved("read_model", ov.Core().read_model("half.onnx"), compress_to_fp16=False)
print(f"half.onnx: {Path('half.onnx').stat().st_size / weights.size:.2f} bytes a weight")
if not (converted > 3.9 and read < 2.1):
    sys.exit("CHANGED: convert_model keeps float16 constants, or read_model does not")
PYTHON
