"""Run the user's file in plain Keras, and delivered files in their plain runtimes, without this project.

    python oracle_plain.py JOBS.json RESULTS.jsonl

Each job names an original (as a recipe's `model:` does), the Keras that wrote it, and the files made from it. Keras 2
or 3 opens the original as its manual says; LiteRT runs the TFLite file sample by sample, with nothing reset between
them, and ONNX Runtime the ONNX file in one batch. Nothing of the project is imported, which is asserted at the end.

Differences are relative to the largest value of an output. The tolerance is `NEAR`, or a few times the output's
movement when every weight and input is rounded up or down by half a float32 step: no file can be nearer than that. A
network whose outputs do not move by ten times as much between inputs tells nothing, and is not counted. Networks of
mixed precision are computed in float32, as their files are.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

NEAR, SAMPLES, STEPS = 1e-4, 4, 8.0
TELLING = 10.0  # times the tolerance that outputs have to move by
MOST_ALLOWED = 1e-2
MIXED = ("mixed_float16", "mixed_bfloat16")
OURS = ("pipeline", "stages")
RECURSION_LIMIT = 10_000  # plain Keras walks along a graph by recursion: Python's 1,000 frames end ResNetRS270


def keras_of(version: int) -> Any:
    """Return plain Keras: tf_keras, or Keras 3 on TensorFlow."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1" if version == 2 else "0"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if version == 2:
        import tf_keras

        return tf_keras
    import keras

    return keras


def original(keras: Any, version: int, spec: dict[str, Any]) -> Any:
    """Open the user's model with its own Keras, as its manual says."""
    if "application" in spec:
        model = getattr(keras.applications, spec["application"])(weights=None, input_shape=tuple(spec["input_shape"]))
        return weighted(keras, version, model, Path(spec["weights"]))
    path = Path(spec["path"])
    if path.suffix == ".json":
        return weighted(keras, version, keras.models.model_from_json(path.read_text()), Path(spec["weights"]))
    settings = {"safe_mode": False} if version == 3 or path.suffix == ".keras" else {}
    if path.suffix or path.is_dir():
        with wrappers() if version == 2 else nullcontext():
            return keras.models.load_model(path, compile=False, **settings)
    with tempfile.TemporaryDirectory() as folder:  # Keras recognizes HDF5 by its suffix
        copy = Path(folder) / "model.h5"
        shutil.copyfile(path, copy)
        return keras.models.load_model(copy, compile=False, **settings)


@contextmanager
def wrappers() -> Iterator[None]:
    """Provide the scope in which Keras 2 knows tfmot's wrappers, as in tfmot's manual."""
    import tensorflow_model_optimization as tfmot
    from tf_keras.src.applications.convnext import LayerScale  # which tf_keras 2.21 saves and does not know again
    from tf_keras.utils import custom_object_scope

    known = custom_object_scope({"LayerScale": LayerScale})
    with tfmot.sparsity.keras.prune_scope(), tfmot.quantization.keras.quantize_scope(), known:
        yield


def weighted(keras: Any, version: int, model: Any, weights: Path) -> Any:
    """Load the model's weights: from a file of weights, a file of a whole model, or a SavedModel."""
    if weights.is_dir():
        import tensorflow as tf

        tf.train.Checkpoint(model).read(str(weights / "variables" / "variables")).expect_partial()
    elif version == 3 and weights.name.endswith(".h5") and not weights.name.endswith(".weights.h5"):
        model.set_weights(keras.models.load_model(weights, compile=False).get_weights())
    else:
        model.load_weights(weights)
    return settled(model)


def settled(model: Any) -> Any:
    """The model, whose Normalization layers compute with the statistics that they hold.

    They make constants of these when they are built and when `load_weights` reads them; `set_weights` and a checkpoint
    leave the constants as they were.
    """
    for layer in model._flatten_layers(include_self=False):
        if hasattr(layer, "finalize_state") and type(layer).__name__ == "Normalization" and layer.built:
            layer.finalize_state()
    return model


def in_float32(model: Any) -> Any:
    """Convert a model of mixed precision to the same network with the same weights in float32, which its
    files compute.
    """
    text = json.dumps(model.get_config())
    if not any(policy in text for policy in MIXED):
        return model
    for policy in MIXED:
        text = text.replace(policy, "float32")
    single = type(model).from_config(json.loads(text))
    single.set_weights(model.get_weights())
    return settled(single)


def named(model: Any, which: str) -> list[str]:
    """Return the names of a model's inputs or outputs, in Keras' order."""
    names = getattr(model, f"{which}_names", None)
    return list(names) if names else [tensor.name.split(":")[0] for tensor in getattr(model, f"{which}s")]


def given_to(model: Any, job: dict[str, Any]) -> list[Any]:
    """Return samples for each input, by seed: normal numbers, the job's range, or indices for an Embedding."""
    import numpy as np

    rng: Any = np.random.default_rng(11)
    found = []
    for tensor, name in zip(model.inputs, named(model, "input"), strict=True):
        sizes = job["shapes"].get(name, tuple(tensor.shape)[1:])
        batch = tensor.shape[0] if tensor.shape[0] and tensor.shape[0] > 1 else SAMPLES
        whole = (batch, *(int(size) for size in sizes))
        kind, rows = str(getattr(tensor.dtype, "name", tensor.dtype)), rows_read(model, tensor)
        if rows or "int" in kind or kind == "bool":
            values = rng.integers(0, rows or 2, whole)
        else:
            values = rng.uniform(*job["range"], whole) if job["range"] else rng.standard_normal(whole)
        found.append(values.astype(kind))
    return found


def rows_read(model: Any, tensor: Any) -> int:
    """Return the number of rows of the smallest table that an input indexes, 0 if none."""
    tables = [layer for layer in getattr(model, "layers", ()) if type(layer).__name__ == "Embedding"]
    return min((table.input_dim for table in tables if any(each is tensor for each in read_by(table))), default=0)


def read_by(layer: Any) -> list[Any]:
    """Return the symbolic tensors that a layer is called on."""
    nodes = getattr(layer, "_inbound_nodes", ())
    if hasattr(layer, "compute_output_spec"):  # Keras 3
        return [tensor for node in nodes for tensor in node.arguments.keras_tensors]
    return [tensor for node in nodes for tensor in node.keras_inputs]


def outputs_of(model: Any, inputs: list[Any]) -> list[Any]:
    """Return the model's outputs as float64 arrays, in Keras' order; sample by sample if it takes no more."""
    import numpy as np

    if model.inputs[0].shape[0] != 1 or len(inputs[0]) == 1:
        return outputs_of_batch(model, inputs)
    parts = [
        outputs_of_batch(model, [values[place : place + 1] for values in inputs]) for place in range(len(inputs[0]))
    ]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def outputs_of_batch(model: Any, inputs: list[Any]) -> list[Any]:
    """Call `outputs_of` once, with no state in any layer."""
    import numpy as np
    import tensorflow as tf

    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False) and hasattr(layer, "cell"):
            (layer.reset_state if hasattr(layer, "reset_state") else layer.reset_states)()
    structure = getattr(model, "_inputs_struct", getattr(model, "_nested_inputs", None))
    given = inputs if len(inputs) > 1 else inputs[0]
    if isinstance(structure, dict):
        given = tf.nest.pack_sequence_as(structure, inputs)
    found = tf.nest.flatten(model(given, training=False))
    return [np.asarray(each).astype(np.float64) for each in found]


def rounded(values: Any, rng: Any) -> Any:
    """Move each float by half a step of float32, up or down."""
    import numpy as np

    if values.dtype.kind != "f":
        return values
    return (values.astype(np.float64) * (1 + rng.choice([-1, 1], values.shape) * 6e-8)).astype(values.dtype)


def sensitivity(model: Any, inputs: list[Any], expected: list[Any]) -> list[float]:
    """Return how far each output moves when all weights and inputs are rounded differently."""
    import numpy as np

    rng, kept = np.random.default_rng(3), model.get_weights()
    model.set_weights([rounded(values, rng) for values in kept])
    moved = outputs_of(model, [rounded(values, rng) for values in inputs])
    model.set_weights(kept)
    return [off(before, after) for before, after in zip(expected, moved, strict=True)]


def off(expected: Any, actual: Any) -> float:
    """Return the largest difference relative to the largest expected value; infinite if shapes or nonfinite values
    differ.
    """
    import numpy as np

    if expected.shape != actual.shape or not np.isfinite(actual).all():
        return float("inf")
    return float(np.max(np.abs(expected - actual), initial=0) / max(np.max(np.abs(expected), initial=0), 1e-30))


def as_named(wanted: list[str], held: list[str]) -> list[str]:
    """Return a file's names in Keras' order; its own order if Keras repeats a name, or there is one."""
    return wanted if len(set(wanted)) == len(wanted) > 1 else held


def in_litert(path: str, inputs: dict[str, Any], outputs: list[str]) -> list[Any]:
    """Return the TFLite file's outputs, sample by sample, or in the batch that it was made for."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    sizes = {name: detail["shape"][0] for name, detail in runner.get_input_details().items()}
    inputs = dict(zip(as_named(list(inputs), list(sizes)), inputs.values(), strict=True))
    outputs = as_named(outputs, list(runner.get_output_details()))
    batch = max(next(iter(sizes.values())), 1)
    parts = []
    for first in range(0, len(next(iter(inputs.values()))), batch):
        found = runner(**{name: values[first : first + batch] for name, values in inputs.items()})
        parts.append([np.array(found[name]) for name in outputs])
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def in_onnx_runtime(path: str, inputs: dict[str, Any], outputs: list[str]) -> list[Any]:
    """Return the ONNX file's outputs, all samples in one batch if it takes that."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    sizes = {value.name: value.shape for value in session.get_inputs()}
    inputs = dict(zip(as_named(list(inputs), list(sizes)), inputs.values(), strict=True))
    outputs = as_named(outputs, [value.name for value in session.get_outputs()])
    count = len(next(iter(inputs.values())))
    fixed = next((shape[0] for shape in sizes.values() if isinstance(shape[0], int)), count)
    parts = [
        session.run(outputs, {name: values[first : first + fixed] for name, values in inputs.items()})
        for first in range(0, count, fixed)
    ]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


RUNTIMES = {"tflite": in_litert, "onnx": in_onnx_runtime}


def judged(job: dict[str, Any]) -> dict[str, Any]:
    """Return `allowed` and `moves` of the original, and each file's error; or `untold`, why nothing can be said."""
    import numpy as np

    keras = keras_of(job["keras"])
    try:
        whole = original(keras, job["keras"], job["model"])
        if any(getattr(layer, "quantization_mode", None) for layer in whole._flatten_layers()):
            return {
                "untold": "Keras 3 rounds activations of its quantized layers as it runs; files do not, as load says"
            }
        model = in_float32(whole)
        inputs = given_to(model, job)
        expected = outputs_of(model, inputs)
        allowed = [max(NEAR, STEPS * step) for step in sensitivity(model, inputs, expected)]
        last = slice(-1, None) if model.inputs[0].shape[0] is None else slice(None)
        alone = outputs_of(model, [values[last] for values in inputs])
        pairs = [
            (one, many[last], bound) for one, many, bound in zip(alone, expected, allowed, strict=True) if many.ndim
        ]
        if any(off(many, one) > bound for one, many, bound in pairs):
            return {"untold": "plain Keras computes otherwise for a sample alone than for one in a batch"}
    except Exception as error:  # noqa: BLE001 - then there is no truth to hold files against
        return {"untold": f"plain Keras can't: {' '.join(str(error).split())[:200]}"}
    if not all(np.isfinite(each).all() for each in expected):
        return {"untold": "plain Keras gives what is not finite"}
    moves = [off(each, np.roll(each, 1, axis=0)) if each.ndim else 0.0 for each in expected]
    found: dict[str, Any] = {"allowed": max(allowed), "moves": min(moves)}
    if any(move < TELLING * bound or bound > MOST_ALLOWED for move, bound in zip(moves, allowed, strict=True)):
        found["untold"] = f"outputs move by {min(moves):.0e} from input to input, and by rounding {max(allowed):.0e}"
        return found
    given, outputs = dict(zip(named(model, "input"), inputs, strict=True)), named(model, "output")
    for kind, path in job["files"].items():
        try:
            # If Keras gives two outputs the same name, the file has its own names: the product says in which order.
            own = len(set(outputs)) == len(outputs)
            actual = RUNTIMES[kind](path, given, outputs if own else job["names"][kind])
            each = [off(a, np.asarray(b)) for a, b in zip(expected, actual, strict=True)]
            found[kind] = max(each)
            found[f"{kind} right"] = all(a <= b for a, b in zip(each, allowed, strict=True))
        except Exception as error:  # noqa: BLE001 - a delivered file that does not run is wrong
            found[kind], found[f"{kind} right"] = " ".join(f"{type(error).__name__}: {error}".split())[:300], False
    return found


def quick_archives() -> None:
    """Let `zipfile` read a member of HDF5 into memory, as Keras 3 does.

    tf_keras has HDF5 go back and forth in it, and each way back begins at the first byte (archived_weights.py).
    """
    real = zipfile.ZipFile.open

    def opened(self: zipfile.ZipFile, name: Any, mode: Any = "r", **more: Any) -> Any:
        member = real(self, name, mode, **more)
        return io.BytesIO(member.read()) if mode == "r" and str(name).endswith(".h5") else member

    zipfile.ZipFile.open = opened  # type: ignore[method-assign, assignment]


def main() -> None:
    sys.setrecursionlimit(RECURSION_LIMIT)
    quick_archives()
    jobs, results = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    for job in jobs:
        with results.open("a") as file:
            file.write(json.dumps({"id": job["id"]}) + "\n")
        found = judged(job)
        strangers = [name for name in sys.modules if name.partition(".")[0] in OURS]
        assert not strangers, f"the oracle has imported {strangers}"
        with results.open("a") as file:
            file.write(json.dumps({"id": job["id"], "found": found}) + "\n")


if __name__ == "__main__":
    main()
