import os
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Set every recipe's default before TensorFlow starts: a process can't change it afterwards.
# On CPUs without AVX-512, TensorFlow has kernels for channels-first convolutions only with oneDNN, which is off there.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "2"

# Use the same examples on every machine, however busy: code that passed once does not fail elsewhere by chance.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")

LOWER = """
def lower():
    from stages.keras import serving as interface
    interface.MOST_BYTES = 1000
"""


@pytest.fixture(scope="session")
def tiny_xception(tiny_images):
    """Build convolution, separable convolution, residual addition, trained batch norms, softmax: 12×12×2 → 4 classes.

    Just wide enough that TFLite's dynamic scheme, which leaves kernels below 1,024 weights alone, has one to quantize.
    """
    import numpy as np

    from stages.keras.tensorflow import import_keras

    keras = import_keras()
    layers = keras.layers
    inputs = keras.Input((12, 12, 2), name="image")
    x = layers.Conv2D(40, 3, strides=2, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_bn")(x))
    y = layers.SeparableConv2D(40, 3, padding="same", use_bias=False, name="separable")(x)
    y = layers.BatchNormalization(name="separable_bn")(y)
    x = layers.ReLU(name="join_relu")(layers.Add(name="join")([x, y]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x), name="tiny_xception")
    rng = np.random.default_rng(7)
    model.set_weights([_plausible(w.name, w.shape, rng) for w in model.weights])
    features = np.asarray(keras.Model(inputs, x)(tiny_images, training=False))
    kernel = rng.standard_normal((features.shape[1], 4)).astype(np.float32)
    model.get_layer("head").set_weights([kernel, -features.mean(axis=0) @ kernel])  # no class wins everywhere
    return model


def _plausible(name, shape, rng):
    """Return weights as training leaves them: none zero, variances positive."""
    import numpy as np

    if "variance" in name or "gamma" in name:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (rng.standard_normal(shape) * 0.3).astype(np.float32)


@pytest.fixture(scope="session")
def tiny_images():
    """Return 64 smooth images between -1 and 1 for `tiny_xception`."""
    import numpy as np

    coarse = np.random.default_rng(3).uniform(-1, 1, (64, 3, 3, 2)).astype(np.float32)
    return np.kron(coarse, np.ones((1, 4, 4, 1), np.float32))


def _tflite_kernels(data):
    """Return for each operator with a kernel its kind, its kernel's type and how many scales that has."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    operators = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    types = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    found = []
    for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = operators[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            kernel = graph.Tensors(int(operator.InputsAsNumpy()[1]))
            scales = kernel.Quantization().ScaleLength() if kernel.Quantization() else 0
            found.append((kind, types[kernel.Type()], scales))
    return found


@pytest.fixture(scope="session")
def tflite_kernels():
    return _tflite_kernels


@pytest.fixture(scope="session")
def cortex_a72():
    """Set up the emulated core as a user does, if this machine can: `target`, its `system`, its `root`.

    Once in the user's cache, about 40 s, by one of the test processes, and reused afterwards.
    """
    import shutil
    from platform import machine
    from types import SimpleNamespace

    from filelock import FileLock

    from pipeline.errors import DeviceError
    from stages.devices.kinds.qemu.emulation import root_of
    from stages.devices.kinds.qemu.sysroot import system_folder, targets_folder
    from stages.devices.target import device_fingerprint, find_target

    target, needed = find_target("cortex-a72"), ("apt-get", "dpkg-deb", "cc")
    targets_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(targets_folder() / "tests.lock"):
        try:
            device_fingerprint(target)
        except DeviceError as error:
            missing = [program for program in needed if shutil.which(program) is None]
            if machine() != "x86_64" or missing:
                pytest.skip(f"{error.what}, and can't be: this needs x86-64 and {', '.join(needed)}")
            target.driver.set_up(target, print)
    return SimpleNamespace(target=target, system=system_folder(), root=root_of(target))


@pytest.fixture
def small_files(tmp_path, monkeypatch):
    """Let one file hold 1,000 bytes, here and in the child that exports."""
    from stages.formats.apart.process import end_child, warm

    monkeypatch.setattr("stages.keras.serving.MOST_BYTES", 1000)
    (tmp_path / "small_files.py").write_text(LOWER)
    monkeypatch.syspath_prepend(tmp_path)
    end_child()
    warm(0, ["small_files:lower"])
    yield
    end_child()


def _random_keep(graph: Any, seed: int = 0) -> Any:
    """Remove about half of each prunable group; one channel always stays, and one goes if there are at least two."""
    import numpy as np

    rng = np.random.default_rng(seed)
    keep = np.ones(graph.count, dtype=bool)
    for group in graph.prunable:
        size = group.channels.size
        if size > 1:
            keep[rng.choice(group.channels, rng.integers(1, size), replace=False)] = False
    return keep


def _cut(model: Any, seed: int = 0) -> Any:
    """Return the network without random channels, which must equal the masked original."""
    from stages.keras.channels.groups import channel_groups
    from stages.keras.flatten import flattened
    from stages.prune.surgery.equivalence import masked_equivalence
    from stages.prune.surgery.random_weights import randomize_weights
    from stages.prune.surgery.surgeon import remove_channels

    model = flattened(randomize_weights(model, seed))
    graph = channel_groups(model)
    keep = _random_keep(graph, seed)
    pruned = remove_channels(model, graph, keep)
    found = masked_equivalence(model, pruned, graph, keep)
    assert found.error < 1e-5
    assert (found.effect > 1e-4) == bool((~keep).any())
    assert pruned.count_params() < model.count_params() or keep.all()
    return SimpleNamespace(model=model, graph=graph, keep=keep, pruned=pruned, found=found)


@pytest.fixture(scope="session")
def random_keep() -> Any:
    return _random_keep


@pytest.fixture(scope="session")
def cut() -> Any:
    return _cut


@pytest.fixture(scope="session")
def keras() -> Any:
    from stages.keras.tensorflow import import_keras

    return import_keras()
