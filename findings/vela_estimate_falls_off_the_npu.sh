#!/bin/sh
# Vela's estimate falls when an operator leaves the NPU.
#
# One would guess: cycles_total of a longer input is larger, and what the NPU can't take is no gain.
# What happens: a mean over more than 4,096 positions goes to the CPU, which costs nothing in the summary. The same
# network on 4,160 samples is told to take a third fewer cycles than on 4,096, on a U55 and half on a U85. Vela exits
# with 0; only what it prints says so (a warning, "CPU operators = 1"), no column of the CSV does.
# Versions: ethos-u-vela 5.2.0, tensorflow-cpu 2.21.0, numpy 2.4.6. Tried 2026-11-29, CPython 3.11, x86-64 Linux.
# Seen:
#   Warning (supported operators) operator: MEAN, ofm: 'Identity'
#   Reason: Reduced axis is too large
#   Reduced axis must be less than 4096
#   ethos-u55-128: 4096 samples 233124 cycles, 0 operators on the CPU, exit 0
#   ethos-u55-128: 4160 samples 150723 cycles (-35%), 1 on the CPU, exit 0
#   ethos-u85-256: 4096 samples 159355 cycles, 0 operators on the CPU, exit 0
#   ethos-u85-256: 4160 samples 76355 cycles (-52%), 1 on the CPU, exit 0
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile -qq \
  ethos-u-vela==5.2.0 tensorflow-cpu==2.21.0 numpy==2.4.6
cd "$tmp"
export TF_CPP_MIN_LOG_LEVEL=3
venv/bin/python - 2>stderr <<'PYTHON' || { tail -n 5 stderr; exit 1; }
import contextlib
import csv
import glob
import io
import re
import sys

import numpy as np
import tensorflow as tf
from ethosu.vela.vela import main

draw = np.random.default_rng(0)
narrow, wide = (tf.constant(draw.normal(0, 0.2, size).astype(np.float32)) for size in ((9, 1, 1, 8), (9, 1, 8, 16)))


def convert(length):
    """Two convolutions over time and their mean, in int8."""

    @tf.function(input_signature=[tf.TensorSpec([1, length, 1, 1], tf.float32)])
    def network(x):
        x = tf.nn.relu(tf.nn.conv2d(x, narrow, 1, "SAME"))
        return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(x, wide, 1, "SAME")), [1, 2])

    samples = [draw.uniform(-1, 1, (1, length, 1, 1)).astype(np.float32) for _ in range(4)]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample] for sample in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with open(f"{length}.tflite", "wb") as file:
        file.write(converter.convert())


def estimate(length, accelerator):
    """Vela's exit code, cycles, operators that it leaves to the CPU, and whether its table has a column for them."""
    folder = f"{length}-{accelerator}"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = main([f"{length}.tflite", "--accelerator-config", accelerator, "--output-dir", folder])
    with open(glob.glob(f"{folder}/*summary*.csv")[0]) as file:
        row = next(csv.DictReader(file))
    on_cpu = int(re.search(r"CPU operators = (\d+)", printed.getvalue())[1])
    return code, float(row["cycles_total"]), on_cpu, any("cpu" in column.lower() for column in row)


for length in (4096, 4160):
    convert(length)
same = True
for accelerator in ("ethos-u55-128", "ethos-u85-256"):
    fits, falls = estimate(4096, accelerator), estimate(4160, accelerator)
    change = falls[1] / fits[1] - 1
    print(f"{accelerator}: 4096 samples {fits[1]:.0f} cycles, {fits[2]} operators on the CPU, exit {fits[0]}")
    print(f"{accelerator}: 4160 samples {falls[1]:.0f} cycles ({change:+.0%}), {falls[2]} on the CPU, exit {falls[0]}")
    same = same and not fits[0] and not falls[0] and (fits[2], falls[2]) == (0, 1) and change < -0.2 and not falls[3]
if not same:
    sys.exit("CHANGED: Vela's estimate counts what is on the CPU, or nothing goes there")
PYTHON
