#!/bin/sh
# LiteRT's own kernels forget the ReLU, or the product, of a dense layer with 4-bit weights in blocks; XNNPACK doesn't.
#
# One would guess: a file means the same with and without XNNPACK, or fails. What happens: of a dense layer with int4
# weights in blocks of 32, dynamically quantized by ai-edge-quantizer, XNNPACK (the default) computes what the weights
# allow. Without default delegates, a fused ReLU is left out (clamped by hand, it is right again), and of fewer than
# four outputs only the bias is left, as if all weights were 0. No error, the same in every run. By the source of
# LiteRT 2.2.0, the kernel for blocks ends after the bias, and few outputs take that of one scale, which is 0 there.
# Versions: tensorflow-cpu 2.21.0, ai-edge-quantizer 0.10.0, ai-edge-litert 2.3.0, numpy 2.4.6. Tried 2026-12-02,
# CPython 3.11, x86-64 Linux.
# Seen:
#   4 outputs, identity: XNNPACK 21.3 dB, without 21.3 dB, least output -22.16
#   4 outputs, relu: XNNPACK 20.4 dB, without 2.4 dB, least output -19.73
#   3 outputs, identity: XNNPACK 20.6 dB, without 0.1 dB, least output 0.62, its bias alone
#   3 outputs, relu: XNNPACK 20.6 dB, without 0.3 dB, least output 0.00, its bias alone
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
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_quantizer import qtyping, quantizer

draw = np.random.default_rng(0)
weights = qtyping.TensorQuantizationConfig(num_bits=4, granularity=qtyping.QuantGranularity.BLOCKWISE_32)
blocks = qtyping.OpQuantizationConfig(weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.INTEGER)


def dense(outputs, activation):
    """Files of a dense layer of 64 inputs, float32 and with weights in blocks, and its bias."""
    weight, bias = (tf.constant(draw.normal(size=size).astype(np.float32)) for size in ((64, outputs), outputs))

    @tf.function(input_signature=[tf.TensorSpec([1, 64], tf.float32)])
    def layer(x):
        return activation(x @ weight + bias)

    whole = tf.lite.TFLiteConverter.from_concrete_functions([layer.get_concrete_function()]).convert()
    other = quantizer.Quantizer(bytearray(whole))
    other.update_quantization_recipe(".*", qtyping.TFLOperationName.FULLY_CONNECTED, blocks)
    with contextlib.redirect_stdout(io.StringIO()):
        return whole, bytes(other.quantize().quantized_model), bias.numpy()


def run(data, values, kind=OpResolverType.AUTO):
    reader = Interpreter(model_content=data, experimental_op_resolver_type=kind)
    reader.allocate_tensors()
    given = []
    for value in values:
        reader.set_tensor(reader.get_input_details()[0]["index"], value[None])
        reader.invoke()
        given.append(reader.get_tensor(reader.get_output_details()[0]["index"])[0])
    return np.array(given)


def near(wanted, given):
    """Ratio of signal to error in dB."""
    return 10 * np.log10(np.square(wanted).sum() / max(np.square(wanted - given).sum(), 1e-30))


values = draw.normal(size=(64, 64)).astype(np.float32)
bare = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
seen = []
for outputs in (4, 3):
    for activation in (tf.identity, tf.nn.relu):
        whole, packed, bias = dense(outputs, activation)
        wanted, default, given = run(whole, values), run(packed, values), run(packed, values, bare)
        alone = np.allclose(given, activation(bias).numpy())
        seen.append([near(wanted, default), near(wanted, given), near(wanted, np.maximum(given, 0)), alone])
        print(
            f"{outputs} outputs, {activation.__name__}: XNNPACK {seen[-1][0]:.1f} dB, without {seen[-1][1]:.1f} dB, "
            f"least output {given.min():.2f}{', its bias alone' if alone else ''}"
        )
right = [[ratio > 12 for ratio in row[:2]] for row in seen]
if right != [[True, True], [True, False], [True, False], [True, False]]:
    sys.exit("CHANGED: another set of layers is right")
if not (seen[1][2] > 12 and seen[2][3] and seen[3][3]):
    sys.exit("CHANGED: what is missing is not the ReLU, or the product")
PYTHON
