#!/bin/sh
# TFLite's dynamic range quantization leaves every weight of fewer than 1,024 elements in float32.
#
# One would guess: Optimize.DEFAULT makes 8-bit weights, or says where it does not. What happens: a dense layer of 32
# x 32 gets int8, one of 31 x 33 (1,023 elements) stays float32 to the byte, without a word. A network of small
# layers, which structured pruning makes of a large one, gets nothing at all: pruned, its file may grow. Below, four
# layers of 30 x 30 keep 100 % of the size, where four of 40 x 40 fall to less than half. ai-edge-quantizer's dynamic
# recipe has no such limit: it takes the small ones too.
# Versions: tensorflow-cpu 2.21.0, ai-edge-quantizer 0.10.0, ai-edge-litert 2.3.0, numpy 2.4.6. Tried 2026-11-29,
# CPython 3.11, x86-64 Linux.
# Seen:
#   31 x 33: float32 4860 bytes, converter 4860 (100%, float32), ai-edge-quantizer 2216 (46%, int8)
#   32 x 32: float32 4864 bytes, converter 2248 (46%, int8), ai-edge-quantizer 2208 (45%, int8)
#   30 x 30 x 30 x 30 x 30: float32 15788 bytes, converter 15788 (100%, float32), ai-edge-quantizer 6488 (41%, int8)
#   40 x 40 x 40 x 40 x 40: float32 26988 bytes, converter 9824 (36%, int8), ai-edge-quantizer 9768 (36%, int8)
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
import sys

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe

draw = np.random.default_rng(0)


def types(data):
    reader = Interpreter(model_content=data)
    matrices = [item for item in reader.get_tensor_details() if len(item["shape"]) == 2 and item["shape"][0] > 1]
    return "/".join(sorted({item["dtype"].__name__ for item in matrices}))


def dense(sizes):
    """Files of a chain of matrices: float32, the converter's dynamic one, ai-edge-quantizer's."""
    weights = [tf.constant(draw.normal(size=pair).astype(np.float32)) for pair in zip(sizes, sizes[1:])]

    @tf.function(input_signature=[tf.TensorSpec([1, sizes[0]], tf.float32)])
    def chain(x):
        for weight in weights:
            x = tf.nn.relu(x @ weight)
        return x

    files = []
    for optimizations in ([], [tf.lite.Optimize.DEFAULT]):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([chain.get_concrete_function()])
        converter.optimizations = optimizations
        files.append(converter.convert())
    other = quantizer.Quantizer(bytearray(files[0]), recipe.dynamic_wi8_afp32())
    with contextlib.redirect_stdout(io.StringIO()):
        files.append(bytes(other.quantize().quantized_model))
    return files


ratios = {}
for sizes in ((31, 33), (32, 32), (30,) * 5, (40,) * 5):
    whole, dynamic, other = dense(sizes)
    ratios[sizes] = len(dynamic) / len(whole), len(other) / len(whole)
    print(
        f"{' x '.join(map(str, sizes))}: float32 {len(whole)} bytes, converter {len(dynamic)} ({ratios[sizes][0]:.0%}, "
        f"{types(dynamic)}), ai-edge-quantizer {len(other)} ({ratios[sizes][1]:.0%}, {types(other)})"
    )
small, large = ratios[(31, 33)], ratios[(32, 32)]
many, wide = ratios[(30,) * 5], ratios[(40,) * 5]
if not (small[0] == many[0] == 1 and large[0] < 0.7 and wide[0] < 0.5 and many[1] < 0.6):
    sys.exit("CHANGED: small weights are quantized, or none are")
PYTHON
