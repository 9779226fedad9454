#!/bin/sh
# ONNX Runtime computes an int8 convolution of 8 channels slower than one of 16, with a quarter of the multiplications.
#
# One would guess: fewer channels never cost more. What happens: 16 and 32 channels are computed by a kernel of their
# own (MLAS packs output channels by 16), other counts by a copy of the patches and a general product. Pruned networks
# have other counts: prune in steps of 16, or measure.
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6. Tried 2026-12-02, CPython 3.11, x86-64 Linux, Intel Xeon
# with avx512_vnni. Without it this script says so and ends.
# Seen (3x3, 32x32 positions, one thread; time relative to 16 channels on both sides):
#   8 -> 8 channels: 1.41
#   12 -> 12 channels: 1.48
#   16 -> 16 channels: 1.00
#   24 -> 24 channels: 1.60
#   32 -> 32 channels: 1.92
set -eu
grep -q avx512_vnni /proc/cpuinfo || { echo "this CPU has no AVX-512 VNNI: nothing to see here"; exit 0; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile -qq onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cd "$tmp"
venv/bin/python - 2>stderr <<'PYTHON' || { tail -n 5 stderr; exit 1; }
import statistics
import sys
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SIZE, ROUNDS, CALLS, DEPTH = 32, 15, 50, 4
draw = np.random.default_rng(0)


def network(channels):
    """Several convolutions in a row: the runtime moves the first and last one's layouts once."""
    nodes, constants = [], []

    def constant(name, values):
        constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    step, half, zero = (
        constant("step", np.float32(0.05)),
        constant("half", np.uint8(128)),
        constant("zero", np.zeros(channels, np.int8)),
    )
    weight_step = constant("weight_step", np.full(channels, 0.01, np.float32))
    last = "x"
    for index in range(DEPTH):
        kernel = constant(f"w{index}", draw.integers(-60, 60, (channels, channels, 3, 3), dtype=np.int8))
        inputs = [last, step, half, kernel, weight_step, zero, step, half]
        last = f"y{index}" if index < DEPTH - 1 else "y"
        nodes.append(helper.make_node("QLinearConv", inputs, [last], pads=[1, 1, 1, 1]))
    shape = [1, channels, SIZE, SIZE]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, {"x": draw.integers(0, 255, shape, dtype=np.uint8)}


def seconds(case):
    session, feed = case
    began = time.perf_counter()
    for _ in range(CALLS):
        session.run(None, feed)
    return time.perf_counter() - began


cases = {channels: network(channels) for channels in (8, 12, 16, 24, 32)}
for case in cases.values():
    seconds(case)
rounds = [{channels: seconds(case) for channels, case in cases.items()} for _ in range(ROUNDS)]  # in turns
ratio = {channels: statistics.median(took[channels] / took[16] for took in rounds) for channels in cases}
for channels, share in ratio.items():
    print(f"  {channels} -> {channels} channels: {share:.2f}")
if not (ratio[8] > 1.15 and ratio[12] > 1.15):
    sys.exit("CHANGED: fewer channels cost less")
PYTHON
