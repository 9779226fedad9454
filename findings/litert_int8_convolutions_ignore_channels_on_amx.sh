#!/bin/sh
# LiteRT's int8 convolutions cost the same with 16, 32 and 64 channels on a CPU with AMX: pruning them gains nothing.
#
# One would guess: half of the channels on both sides are a quarter of the work, and take about half of the time or
# less, as they do in float32. What happens: XNNPACK's AMX kernels multiply tiles of 16 rows by 64 channels, for each of
# the nine positions of the kernel; a tile costs the same however full it is. So a 3x3 convolution of 16 channels takes
# as long as one of 64, and a first one of 3 channels longer than in float32. To make such a network faster, leave its
# first layers in float32 and prune those, or take layers out; channels of int8 layers below 64 are free.
# Versions: tensorflow-cpu 2.21.0, ai-edge-litert 2.3.0, numpy 2.4.6. Tried 2026-12-02, CPython 3.11, x86-64 Linux,
# Intel Xeon with amx_int8 (family 6). Without AMX this script says so and ends.
# Seen (3x3, 32x32 positions, one thread; time relative to 64 channels of the same type):
#   3 -> 16 channels: int8 0.87, float32 0.02
#   16 -> 16 channels: int8 0.86, float32 0.09
#   32 -> 32 channels: int8 0.89, float32 0.24
#   64 -> 64 channels: int8 1.00, float32 1.00
#   3 -> 16 channels: int8 takes 3.8 times as long as float32
set -eu
grep -q amx_int8 /proc/cpuinfo || { echo "this CPU has no AMX: nothing to see here"; exit 0; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile -qq \
  tensorflow-cpu==2.21.0 ai-edge-litert==2.3.0 numpy==2.4.6
cd "$tmp"
export TF_CPP_MIN_LOG_LEVEL=3
venv/bin/python - 2>stderr <<'PYTHON' || { tail -n 5 stderr; exit 1; }
import statistics
import sys
import time

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

SIZE, ROUNDS, CALLS = 32, 15, 100
draw = np.random.default_rng(0)


def convolution(inputs, outputs, int8):
    kernel = tf.constant(draw.normal(0, (9 * inputs) ** -0.5, (3, 3, inputs, outputs)), tf.float32)
    spec = tf.TensorSpec([1, SIZE, SIZE, inputs])
    layer = tf.function(lambda x: tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))).get_concrete_function(spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([layer])
    if int8:
        samples = draw.normal(size=(8, 1, SIZE, SIZE, inputs)).astype(np.float32)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    reader = Interpreter(model_content=converter.convert(), num_threads=1)
    reader.allocate_tensors()
    return reader


def seconds(reader):
    began = time.perf_counter()
    for _ in range(CALLS):
        reader.invoke()
    return time.perf_counter() - began


cases = [(3, 16), (16, 16), (32, 32), (64, 64)]
readers = {(case, int8): convolution(*case, int8) for case in cases for int8 in (True, False)}
for reader in readers.values():
    seconds(reader)
rounds = [{key: seconds(reader) for key, reader in readers.items()} for _ in range(ROUNDS)]  # in turns
whole = (64, 64)
share = {key: statistics.median(took[key] / took[whole, key[1]] for took in rounds) for key in readers}
first = statistics.median(took[(3, 16), True] / took[(3, 16), False] for took in rounds)
for case in cases:
    print(f"  {case[0]} -> {case[1]} channels: int8 {share[case, True]:.2f}, float32 {share[case, False]:.2f}")
print(f"  3 -> 16 channels: int8 takes {first:.1f} times as long as float32")
if not (min(share[(16, 16), True], share[(32, 32), True]) > 0.7 and share[(16, 16), False] < 0.25 and first > 1.5):
    sys.exit("CHANGED: int8 convolutions of few channels are faster than those of many")
PYTHON
