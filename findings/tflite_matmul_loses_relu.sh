#!/bin/sh
# TensorFlow's TFLite converter loses the ReLU after a product of two matrices that are both computed.
#
# One would guess: relu(x @ y) has no negative outputs in any file that converts without an error.
# What happens: of rank 2, with a right operand that is not constant and no bias, it becomes one BATCH_MATMUL, which
# has no fused activation, and the ReLU is gone; relu6 too. With a bias, or of rank 3, it stays. No warning, in
# float32 already. One meets it where weights are unpacked or scaled inside the graph: Keras 3.15's quantize("int4")
# and export(format="litert") of Dense(64, activation="relu") on 64 inputs gives such a file.
# Versions: tensorflow-cpu 2.21.0, keras 3.15.1, ai-edge-litert 2.3.0, numpy 2.4.6. Tried 2026-11-29, CPython 3.11,
# x86-64 Linux.
# Seen:
#   relu(x @ y): ['BATCH_MATMUL'], least output -8.37, 8.4 off TensorFlow
#   relu6(x @ y): ['BATCH_MATMUL'], least output -6.31, 6.3 off TensorFlow
#   relu(x @ y + 1): ['TRANSPOSE', 'FULLY_CONNECTED'], least output 0.00, 4.8e-07 off TensorFlow
#   relu(x @ y), rank 3: ['BATCH_MATMUL', 'RELU'], least output 0.00, 0 off TensorFlow
#   Keras int4, Dense with relu: ['CAST', 'CAST', 'SUB', 'MUL', 'BATCH_MATMUL'], least output -2.23
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile -qq \
  tensorflow-cpu==2.21.0 keras==3.15.1 ai-edge-litert==2.3.0 numpy==2.4.6
cd "$tmp"
export TF_CPP_MIN_LOG_LEVEL=3
venv/bin/python - 2>stderr <<'PYTHON' || { tail -n 5 stderr; exit 1; }
import sys
import warnings

warnings.simplefilter("ignore")
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter


def run(data, values):
    """Output of a file, and its operators."""
    reader = Interpreter(model_content=data)
    reader.allocate_tensors()
    for item, value in zip(sorted(reader.get_input_details(), key=lambda item: item["name"]), values):
        reader.set_tensor(item["index"], value)
    reader.invoke()
    operators = [item["op_name"] for item in reader._get_ops_details() if item["op_name"] != "DELEGATE"]
    return reader.get_tensor(reader.get_output_details()[0]["index"]), operators


draw = np.random.default_rng(0)
products = {
    "relu(x @ y)": (lambda x, y: tf.nn.relu(x @ y), ()),
    "relu6(x @ y)": (lambda x, y: tf.nn.relu6(x @ y), ()),
    "relu(x @ y + 1)": (lambda x, y: tf.nn.relu(x @ y + tf.ones(8)), ()),
    "relu(x @ y), rank 3": (lambda x, y: tf.nn.relu(x @ y), (1,)),
}
least = {}
for name, (product, batch) in products.items():
    values = [draw.normal(size=(*batch, 8, 8)).astype(np.float32) for _ in range(2)]
    specs = [tf.TensorSpec(value.shape, tf.float32, name=letter) for value, letter in zip(values, "xy")]
    function = tf.function(product).get_concrete_function(*specs)
    given, operators = run(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert(), values)
    least[name] = float(given.min())
    far = float(np.abs(given - function(*map(tf.constant, values)).numpy()).max())
    print(f"{name}: {operators}, least output {least[name]:.2f}, {far:.2g} off TensorFlow")

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, activation="relu")])
model.quantize("int4")
model.export("int4.tflite", format="litert", verbose=False)
with open("int4.tflite", "rb") as file:
    given, operators = run(file.read(), [draw.normal(size=(1, 64)).astype(np.float32)])
least["keras"] = float(given.min())
print(f"Keras int4, Dense with relu: {operators}, least output {least['keras']:.2f}")
if [least[name] < 0 for name in (*products, "keras")] != [True, True, False, False, True]:
    sys.exit("CHANGED: another set of products keeps its ReLU")
PYTHON
