#!/bin/sh
# tf_keras reads the weights inside a .keras archive many times over: opening takes time by the square of their size.
#
# One would guess: `load_model` reads each byte of the archive about once, as Keras 3 does.
# What happens: HDF5 is given the archive's member where it stands, and walks back and forth in it for every layer. A
# member of a zip can't go back: Python's zipfile starts again at its first byte and reads, with a checksum, up to the
# wanted place. Networks of hundreds of layers and megabytes take minutes to open, in one thread. Extracting the member
# first, or saving as .h5, avoids it. (Python 3.13 goes back in members that are stored and not encrypted.)
# Versions: tf-keras 2.21.0, tensorflow-cpu 2.21.0, keras 3.15.1, h5py as they ask for. Tried 2026-12-01,
# CPython 3.11, x86-64 Linux.
# Seen:
#   tf_keras: 40 layers, 10.6 MB of weights, 328.4 MB read of the archive, 31 times as much
#   keras: 40 layers, 10.6 MB of weights, 10.7 MB read of the archive, 1 times as much
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile -qq \
  tensorflow-cpu==2.21.0 keras==3.15.1 numpy==2.4.6
"$tmp/venv/bin/pip" install --disable-pip-version-check --no-compile --no-deps -qq tf-keras==2.21.0
cd "$tmp"
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - 2>stderr <<'PYTHON' || { tail -n 5 stderr; exit 1; }
import sys
import zipfile

import keras
import tf_keras

LAYERS = 40
passed = 0
real = zipfile.ZipExtFile._update_crc


def counted(self, data):
    global passed
    passed += len(data)
    return real(self, data)


zipfile.ZipExtFile._update_crc = counted  # is given each piece that is read of a member
times = {}
for name, library in (("tf_keras", tf_keras), ("keras", keras)):
    model = library.Sequential([library.Input((256,)), *(library.layers.Dense(256) for _ in range(LAYERS))])
    path = f"{name}.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("model.weights.h5").file_size
    passed = 0
    library.models.load_model(path, compile=False)
    times[name] = passed / size
    told = f"{size / 1e6:.1f} MB of weights, {passed / 1e6:.1f} MB read of the archive, {times[name]:.0f} times as much"
    print(f"{name}: {LAYERS} layers, {told}")
if not (times["tf_keras"] > LAYERS / 4 and times["keras"] < 2):
    sys.exit("CHANGED: tf_keras no longer reads archives many times over")
PYTHON
