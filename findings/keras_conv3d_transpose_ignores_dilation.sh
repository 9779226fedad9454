#!/bin/sh
# tf_keras' Conv3DTranspose takes a dilation_rate, computes without it, and does not save it.
#
# One would guess: `Conv3DTranspose(1, 3, dilation_rate=2)` spreads its kernel over five positions, as Conv2DTranspose
# does; or, where there is no kernel for it, the setting is refused.
# What happens: the layer keeps the attribute, its output is that of `dilation_rate=1`, value by value, and
# `get_config()` has no such entry, so that the file of the model does not tell either. Whoever reads `dilation_rate`
# from the live layer (to count work, to convert it, to fit it) describes another layer.
# Versions: tf-keras 2.21.0, tensorflow-cpu 2.21.0. Tried 2026-12-01, CPython 3.11, x86-64 Linux.
# Seen:
#   Conv2DTranspose: output (1, 5, 5, 1) with dilation 1, (1, 7, 7, 1) with 2; in the configuration
#   Conv3DTranspose: output (1, 5, 5, 5, 1) with dilation 1, (1, 5, 5, 5, 1) with 2, equal; not in the configuration
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile -qq \
  tensorflow-cpu==2.21.0 numpy==2.4.6
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile --no-deps -qq tf-keras==2.21.0
cd "$tmp"
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - 2>stderr <<'PYTHON' || { tail -n 5 stderr; exit 1; }
import sys

import numpy as np
import tf_keras as keras

found = []
for rank in (2, 3):
    name = f"Conv{rank}DTranspose"
    inputs = np.random.default_rng(0).random((1, *[3] * rank, 1)).astype(np.float32)
    outputs = []
    for dilation in (1, 2):
        layer = getattr(keras.layers, name)(1, 3, dilation_rate=dilation, kernel_initializer="ones", use_bias=False)
        outputs.append(layer(inputs).numpy())
    told = "dilation_rate" in layer.get_config()
    equal = outputs[0].shape == outputs[1].shape and np.array_equal(*outputs)
    print(
        f"{name}: output {outputs[0].shape} with dilation 1, {outputs[1].shape} with 2{', equal' if equal else ''}; "
        f"{'in' if told else 'not in'} the configuration"
    )
    found.append((equal, told, set(layer.dilation_rate)))
if found != [(False, True, {2}), (True, False, {2})]:
    sys.exit("CHANGED: Conv3DTranspose computes with its dilation_rate, saves it, or refuses it")
PYTHON
