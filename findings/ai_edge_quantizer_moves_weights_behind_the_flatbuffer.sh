#!/bin/sh
# ai-edge-quantizer writes the weights of larger models behind the flatbuffer, where readers of the schema miss them.
#
# One would guess: a quantized file holds its weights where the float32 file does, in Buffer.data of the schema, which
# has Buffer.offset for files above 2 GB. What happens: as soon as the buffers of 1 kB and more reach 256 kB together,
# their Buffer.data is empty, and an offset and size point behind the flatbuffer; one row less, and they stay. Who
# counts or changes weights by the schema alone finds none, without an error: TensorFlow's Analyzer reports 112 bytes
# of data, and flatbuffer_utils.convert_bytearray_to_object has as many. LiteRT runs both files right, and
# flatbuffer_utils.read_model follows the offsets.
# Versions: tensorflow-cpu 2.21.0, ai-edge-quantizer 0.10.0, ai-edge-litert 2.3.0, numpy 2.4.6. Tried 2026-12-02,
# CPython 3.11, x86-64 Linux.
# Seen:
#   511 x 512 int8: 261744 bytes in Buffer.data, 0 behind; Analyzer sees 261744, read_model 261744; LiteRT 1.0% off
#   512 x 512 int8: 112 bytes in Buffer.data, 262144 behind; Analyzer sees 112, read_model 262256; LiteRT 1.0% off
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile -qq \
  tensorflow-cpu==2.21.0 ai-edge-quantizer==0.10.0 ai-edge-litert==2.3.0 numpy==2.4.6
cd "$tmp"
export TF_CPP_MIN_LOG_LEVEL=3
venv/bin/python - 2>stderr <<'PYTHON' || { tail -n 5 stderr; exit 1; }
import contextlib
import io
import re
import sys

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from tensorflow.lite.tools import flatbuffer_utils

draw = np.random.default_rng(0)


def dense(inputs):
    """Files of a matrix of 512 columns: float32, and with int8 weights."""
    weight = tf.constant(draw.normal(size=(inputs, 512)).astype(np.float32))
    layer = tf.function(lambda x: x @ weight).get_concrete_function(tf.TensorSpec([1, inputs], tf.float32))
    whole = tf.lite.TFLiteConverter.from_concrete_functions([layer]).convert()
    other = quantizer.Quantizer(bytearray(whole), recipe.dynamic_wi8_afp32())
    with contextlib.redirect_stdout(io.StringIO()):
        return whole, bytes(other.quantize().quantized_model)


def run(data, value):
    reader = Interpreter(model_content=data)
    reader.allocate_tensors()
    reader.set_tensor(reader.get_input_details()[0]["index"], value)
    reader.invoke()
    return reader.get_tensor(reader.get_output_details()[0]["index"])


def held(model):
    return sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)


seen = {}
for inputs in (511, 512):
    whole, packed = dense(inputs)
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(packed))
    inside, behind = held(model), sum(buffer.size for buffer in model.buffers)
    followed = held(flatbuffer_utils.read_model_from_bytearray(bytearray(packed)))
    with contextlib.redirect_stdout(io.StringIO()) as report:
        tf.lite.experimental.Analyzer.analyze(model_content=packed)
    analyzed = int(re.search(r"Total data buffer size: *(\d+)", report.getvalue())[1])
    value = draw.normal(size=(1, inputs)).astype(np.float32)
    wanted, given = run(whole, value), run(packed, value)
    error = float(np.linalg.norm(given - wanted) / np.linalg.norm(wanted))
    seen[inputs] = inside, behind, followed, analyzed, error
    print(
        f"{inputs} x 512 int8: {inside} bytes in Buffer.data, {behind} behind; Analyzer sees {analyzed}, read_model "
        f"{followed}; LiteRT {error:.1%} off"
    )
small, large = seen[511], seen[512]
if not (
    small[1] == 0
    and small[0] == small[2] == small[3] > 511 * 512
    and large[1] == 512 * 512
    and large[0] == large[3] == large[2] - large[1] < 1000
    and max(small[4], large[4]) < 0.05
):
    sys.exit("CHANGED: both files hold their weights alike, or Analyzer sees them")
PYTHON
