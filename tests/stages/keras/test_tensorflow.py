import os
import subprocess
import sys

import pytest

from pipeline.errors import PreconditionError
from stages.keras.tensorflow import import_keras, import_tensorflow, prepared_tensorflow, tensorflow_action

THREADS = 2  # what this process runs with already


def test_an_action_begins_in_the_same_state_each_time():
    drawn = []
    for seed in (3, 3, 4):
        with tensorflow_action(seed, THREADS) as keras:
            layer = keras.layers.Dense(2)
            layer.build((None, 3))
            drawn.append((layer.name, layer.kernel.numpy().tolist()))
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] == "dense"


def test_gradients_that_an_action_registered_are_gone_afterwards():
    from tensorflow.python.framework import ops

    tf = import_tensorflow()

    @tf.custom_gradient
    def doubled(x):
        return x * 2.0, lambda slope: slope * 2.0

    before = len(ops.gradient_registry.list())
    with tensorflow_action(0, THREADS):
        tf.function(doubled)(tf.constant(1.0))
        assert len(ops.gradient_registry.list()) > before
    assert len(ops.gradient_registry.list()) == before


def test_thread_counts_of_a_running_tensorflow_are_kept():
    import_tensorflow().constant(1.0) + 1.0  # its first operation decides
    with pytest.raises(PreconditionError, match="other thread counts already"), tensorflow_action(0, THREADS + 1):
        pass
    assert prepared_tensorflow(0) is import_tensorflow()


def test_the_first_import_chooses_keras_2_is_quiet_and_calls_what_was_asked_for():
    code = (
        "from stages.keras.tensorflow import after_import, import_keras, import_tensorflow\n"
        "heard = []\n"
        "after_import(lambda: heard.append(1))\n"
        "import_keras()\n"
        "print(heard, import_tensorflow().keras.Model is import_keras().Model)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["[1]", "True"]
    assert done.stderr == ""
    assert import_keras() is import_keras()


def test_a_cpu_without_kernels_for_channels_first_is_told_what_helps():
    code = (
        "from pipeline.errors import DeviceError\n"
        "from stages.keras.tensorflow import tensorflow_action\n"
        "with tensorflow_action(0, 2) as keras:\n"
        "    x = keras.Input((3, 8, 8))\n"
        "    model = keras.Model(x, keras.layers.Conv2D(4, 3, data_format='channels_first')(x))\n"
        "    try:\n"
        "        with tensorflow_action(0, 2):\n"
        "            print(model(__import__('numpy').ones((1, 3, 8, 8), 'float32')).shape)\n"
        "    except DeviceError as error:\n"
        "        print(error.what, error.hint)\n"
    )
    said = {}
    for switch in "01":
        environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": switch}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        said[switch] = done.stdout.strip()
    assert said["1"] == "(1, 4, 6, 6)"
    assert "no kernels for layers with channels first" in said["0"]
    assert "set TF_ENABLE_ONEDNN_OPTS=1" in said["0"]


def test_files_are_what_their_name_says_in_a_thread_that_did_not_import_keras(tmp_path):
    from concurrent.futures import ThreadPoolExecutor
    from zipfile import is_zipfile

    keras = import_keras()
    model = keras.Sequential([keras.layers.Dense(2, input_shape=(3,))])
    model.save(tmp_path / "first.keras")

    def work(name):
        with tensorflow_action(0, THREADS):
            keras.models.load_model(tmp_path / "first.keras").save(tmp_path / name)
            return is_zipfile(tmp_path / name)

    with ThreadPoolExecutor(1) as pool:
        assert [pool.submit(work, name).result() for name in ("second.keras", "third.keras")] == [True, True]
