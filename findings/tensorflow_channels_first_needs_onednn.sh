#!/bin/sh
# Whether TensorFlow runs a channels-first convolution on a CPU depends on oneDNN, whose default follows the CPU.
#
# One would guess: a CPU build either has a kernel for data_format NCHW or has none. What happens: TensorFlow's own
# kernels are for NHWC alone, oneDNN's take both. oneDNN is on by itself only on CPUs with instructions for networks
# (AVX-512 VNNI and the like), so that one network and one wheel train and infer on a server and end with "only supports
# the NHWC tensor format on the CPU" on an older desktop or in a smaller virtual machine. TF_ENABLE_ONEDNN_OPTS=1 gives
# the older CPU (AVX2) the kernel, TF_ENABLE_ONEDNN_OPTS=0 takes it from the newer. Where it runs, the result is that of
# the transposed network. Depthwise convolutions and average pooling behave alike.
# Versions: tensorflow-cpu 2.21.0, numpy 2.4.6. Tried 2026-11-30, CPython 3.11, x86-64 Linux (AVX2, no AVX-512).
# Seen:
#   oneDNN 0: convolution refused, depthwise refused, pooling refused
#   oneDNN 1: convolution 2.9e-06, depthwise 0.0e+00, pooling 0.0e+00   (differences from the transposed network)
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile -qq tensorflow-cpu==2.21.0 numpy==2.4.6
cd "$tmp"
cat > once.py <<'PYTHON'
import numpy as np
import tensorflow as tf

draw = np.random.default_rng(0)
x = draw.normal(size=(1, 8, 6, 6)).astype(np.float32)
kernel, deep = (draw.normal(size=shape).astype(np.float32) for shape in ((3, 3, 8, 4), (3, 3, 8, 1)))
calls = {
    "convolution": lambda x, form: tf.nn.conv2d(x, kernel, 1, "VALID", data_format=form),
    "depthwise": lambda x, form: tf.nn.depthwise_conv2d(x, deep, [1] * 4, "VALID", data_format=form),
    "pooling": lambda x, form: tf.nn.avg_pool2d(x, 2, 2, "VALID", data_format=form),
}
said = []
for name, call in calls.items():
    wanted = np.transpose(call(np.transpose(x, (0, 2, 3, 1)), "NHWC"), (0, 3, 1, 2))
    try:
        said.append(f"{name} {np.abs(call(x, 'NCHW') - wanted).max():.1e}")
    except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError) as error:
        said.append(f"{name} refused" if "NHWC" in str(error) else f"{name} {error}")
print(", ".join(said))
PYTHON
export TF_CPP_MIN_LOG_LEVEL=3
for switch in 0 1; do
  TF_ENABLE_ONEDNN_OPTS=$switch venv/bin/python once.py > said.$switch 2>stderr || { tail -n 5 stderr; exit 1; }
  echo "oneDNN $switch: $(cat said.$switch)"
done
[ "$(cat said.0)" = "convolution refused, depthwise refused, pooling refused" ] ||
  { echo "CHANGED: without oneDNN some of them run"; exit 1; }
case $(cat said.1) in *refused*) echo "CHANGED: with oneDNN some of them are refused"; exit 1 ;; esac
