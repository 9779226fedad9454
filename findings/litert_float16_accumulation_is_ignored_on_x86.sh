#!/bin/sh
# A float16 file that allows sums in float16 is computed in float32 on an x86 CPU with AVX-512 FP16.
#
# One would guess: with weights in float16 and `reduced_precision_support: fp16accfp16` in its metadata, a file runs in
# float16 wherever the CPU has such arithmetic, twice as fast; LiteRT's library brings kernels for avx512fp16 along.
# What happens: the file takes as long as one without the permission, and gives the same numbers to the last bit.
# XNNPACK's source asks for such arithmetic on ARM and RISC-V alone. By itself the converter writes `fp16accfp32`, and
# LiteRT's delegate wants sums in float16 as well: by its source, such files are computed in float32 on phones too.
# Versions: tensorflow-cpu 2.21.0, ai-edge-litert 2.3.0, numpy 2.4.6. Tried 2026-12-02, CPython 3.11, x86-64 Linux,
# Intel Xeon with avx512_fp16. Without it this script says so and ends.
# Seen:
#   float32: metadata says nothing; 1.00 of float32's time
#   float16: metadata says fp16accfp32; 1.00 of float32's time
#   float16 sums: metadata says fp16accfp16; 1.00 of float32's time
#   both float16 files give the same bits: True; the library has kernels for avx512fp16: True
set -eu
grep -q avx512_fp16 /proc/cpuinfo || { echo "this CPU has no AVX-512 FP16: nothing to see here"; exit 0; }
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
from pathlib import Path

import ai_edge_litert
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.tools import flatbuffer_utils

SIZE, CHANNELS, ROUNDS, CALLS = 32, 64, 15, 50
draw = np.random.default_rng(0)
kernel = tf.constant(draw.normal(0, (9 * CHANNELS) ** -0.5, (3, 3, CHANNELS, CHANNELS)), tf.float32)
spec = tf.TensorSpec([1, SIZE, SIZE, CHANNELS])
layer = tf.function(lambda x: tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))).get_concrete_function(spec)


def converted(half, sums):
    converter = tf.lite.TFLiteConverter.from_concrete_functions([layer])
    if half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    if sums:
        converter.target_spec._experimental_supported_accumulation_type = tf.float16
    return converter.convert()


def said(data):
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    entries = [entry for entry in model.metadata if entry.name == b"reduced_precision_support"]
    return bytes(model.buffers[entries[0].buffer].data).rstrip(b"\0").decode() if entries else "nothing"


files = {"float32": converted(False, False), "float16": converted(True, False), "float16 sums": converted(True, True)}
value = draw.normal(size=(1, SIZE, SIZE, CHANNELS)).astype(np.float32)
readers, outputs = {}, {}
for name, data in files.items():
    reader = readers[name] = Interpreter(model_content=data, num_threads=1)
    reader.allocate_tensors()
    reader.set_tensor(reader.get_input_details()[0]["index"], value)
    reader.invoke()
    outputs[name] = reader.get_tensor(reader.get_output_details()[0]["index"])


def seconds(reader):
    began = time.perf_counter()
    for _ in range(CALLS):
        reader.invoke()
    return time.perf_counter() - began


rounds = [{name: seconds(reader) for name, reader in readers.items()} for _ in range(ROUNDS)]  # in turns
ratio = {name: statistics.median(took[name] / took["float32"] for took in rounds) for name in files}
libraries = Path(ai_edge_litert.__file__).parent.glob("*.so")
kernels = any(b"f16-igemm-8x32-minmax-avx512fp16" in library.read_bytes() for library in libraries)
for name, data in files.items():
    print(f"  {name}: metadata says {said(data)}; {ratio[name]:.2f} of float32's time")
same = np.array_equal(outputs["float16"], outputs["float16 sums"])
print(f"  both float16 files give the same bits: {same}; the library has kernels for avx512fp16: {kernels}")
if not (same and kernels and ratio["float16 sums"] > 0.85 and said(files["float16 sums"]) == "fp16accfp16"):
    sys.exit("CHANGED: float16 is computed in float16 on x86, or its kernels are gone")
PYTHON
