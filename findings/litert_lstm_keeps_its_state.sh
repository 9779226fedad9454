#!/bin/sh
# An LSTM in a TFLite file remembers the sample before.
#
# One would guess: a Keras LSTM that is not stateful starts every call at zeros, in its TFLite file as in Keras.
# What happens: the converter fuses it into UNIDIRECTIONAL_SEQUENCE_LSTM, whose state is a variable of the file. The
# first invocation is right to the last digits, the second of the very same input is not; signature runners do so too.
# A check of one sample per interpreter sees nothing. Only reset_all_variables() clears it; allocate_tensors() a
# second time does not.
# Versions: tensorflow-cpu 2.21.0, tf-keras 2.21.0, ai-edge-litert 2.3.0, numpy 2.4.6. Tried 2026-11-29, CPython 3.11,
# x86-64 Linux.
# Seen:
#   operators: ['STRIDED_SLICE', 'UNIDIRECTIONAL_SEQUENCE_LSTM']
#   calls of one input: 0.0%, 9.8%, 11.3% off Keras
#   after allocate_tensors 11.5%, after reset_all_variables 0.0%, by signature then 9.8%
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile -qq \
  tensorflow-cpu==2.21.0 tf-keras==2.21.0 ai-edge-litert==2.3.0 numpy==2.4.6
cd "$tmp"
export TF_CPP_MIN_LOG_LEVEL=3 TF_USE_LEGACY_KERAS=1
venv/bin/python - 2>stderr <<'PYTHON' || { tail -n 5 stderr; exit 1; }
import sys

import numpy as np
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter

tf_keras.utils.set_random_seed(0)
model = tf_keras.Sequential([tf_keras.Input((8, 4), batch_size=1), tf_keras.layers.LSTM(8)])
sample = np.random.default_rng(0).normal(size=(1, 8, 4)).astype(np.float32)
right = model(sample).numpy()
reader = Interpreter(model_content=tf.lite.TFLiteConverter.from_keras_model(model).convert())
reader.allocate_tensors()
print("operators:", sorted(item["op_name"] for item in reader._get_ops_details()))


def off():
    """Difference from Keras in parts of the largest output."""
    reader.set_tensor(reader.get_input_details()[0]["index"], sample)
    reader.invoke()
    given = reader.get_tensor(reader.get_output_details()[0]["index"])
    return float(np.abs(given - right).max() / np.abs(right).max())


first, second, third = off(), off(), off()
reader.allocate_tensors()
again = off()
reader.reset_all_variables()
reset = off()
runner = reader.get_signature_runner()
given = next(iter(runner(**{next(iter(runner.get_input_details())): sample}).values()))
signature = float(np.abs(given - right).max() / np.abs(right).max())
print(f"calls of one input: {first:.1%}, {second:.1%}, {third:.1%} off Keras")
print(f"after allocate_tensors {again:.1%}, after reset_all_variables {reset:.1%}, by signature then {signature:.1%}")
if not (max(first, reset) < 1e-5 and min(second, third, again, signature) > 0.02):
    sys.exit("CHANGED: the state is no longer kept from call to call, or cleared otherwise")
PYTHON
