#!/bin/sh
# TensorFlow Lite for Microcontrollers computes weight-only files with a scale per channel to other numbers.
#
# One would guess: a file that loads, allocates and runs there gives what LiteRT gives, or is refused.
# What happens: ai-edge-quantizer's weight_only recipe stores int8 kernels, a scale per channel, and a DEQUANTIZE
# before each layer. TFLM's DEQUANTIZE takes one scale for the whole tensor: it returns numbers of another size,
# without an error. With one scale per tensor both agree, and so they do on the float32 file.
# Versions: ai-edge-quantizer 0.10.0, tflite-micro 0.dev20261023182759, ai-edge-litert 2.3.0, tensorflow-cpu 2.21.0,
# numpy 2.4.6. Tried 2026-11-29, CPython 3.11, x86-64 Linux.
# Seen:
#   float32: LiteRT gives -0.8152, TFLM -0.8152; 0.0% apart
#   per tensor: LiteRT gives -0.8042, TFLM -0.8042; 0.0% apart
#   per channel: LiteRT gives -0.8282, TFLM 0.0009; 100.1% apart
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile -qq tensorflow-cpu==2.21.0 numpy==2.4.6 \
  ai-edge-quantizer==0.10.0 ai-edge-litert==2.3.0 tflite-micro==0.dev20261023182759
cd "$tmp"
export TF_CPP_MIN_LOG_LEVEL=3
venv/bin/python - 2>stderr <<'PYTHON' || { tail -n 5 stderr; exit 1; }
import contextlib
import io
import sys

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import qtyping, quantizer
from tflite_micro.python.tflite_micro import runtime

draw = np.random.default_rng(0)
first, second = (draw.normal(size=size) * np.geomspace(0.02, 1, size[1]) for size in ((16, 16), (16, 4)))
sample = draw.normal(size=(1, 16)).astype(np.float32)


@tf.function(input_signature=[tf.TensorSpec([1, 16], tf.float32)])
def network(x):
    return tf.nn.relu(x @ tf.constant(first, tf.float32)) @ tf.constant(second, tf.float32)


def quantized(data, granularity):
    tool = quantizer.Quantizer(bytearray(data))
    every = qtyping.TFLOperationName.ALL_SUPPORTED
    tool.add_weight_only_config(regex=".*", operation_name=every, num_bits=8, granularity=granularity)
    with contextlib.redirect_stdout(io.StringIO()):
        return bytes(tool.quantize().quantized_model)


def apart(name, data):
    """How far TFLM is from LiteRT, in parts of LiteRT's largest output."""
    full = Interpreter(model_content=data)
    full.allocate_tensors()
    full.set_tensor(full.get_input_details()[0]["index"], sample)
    full.invoke()
    micro = runtime.Interpreter.from_bytes(data)
    micro.set_input(sample, 0)
    micro.invoke()
    expected, given = full.get_tensor(full.get_output_details()[0]["index"]), micro.get_output(0)
    far = float(np.abs(given - expected).max() / np.abs(expected).max())
    print(f"{name}: LiteRT gives {expected[0, 3]:.4f}, TFLM {given[0, 3]:.4f}; {far:.1%} apart")
    return far


whole = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()]).convert()
same = apart("float32", whole)
tensor = apart("per tensor", quantized(whole, qtyping.QuantGranularity.TENSORWISE))
channel = apart("per channel", quantized(whole, qtyping.QuantGranularity.CHANNELWISE))
if not (max(same, tensor) < 1e-4 and channel > 0.3):
    sys.exit("CHANGED: TFLM and LiteRT differ otherwise on weight-only files")
PYTHON
