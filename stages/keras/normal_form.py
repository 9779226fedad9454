"""Store Keras models in normal form: a `.keras` file whose bytes follow from the model alone.

Keras' own files do not have this property: they hold the date, zip times, and addresses of objects in memory
(`shared_object_id`), and the weights' layout changes after one load and save. So a model is rebuilt from its
configuration without these, its weights are copied, and the archive is written again with fixed times. Any tf_keras
opens the result.
"""

from __future__ import annotations

import importlib
import io
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.records.artifacts import TensorSpec
from pipeline.records.facts import KerasFacts
from pipeline.records.keys import digest_of_file
from stages.keras.archived_weights import weights_apart
from stages.keras.free_sizes import inputs_at, like, put_shapes, settled, shapes_of
from stages.keras.tensorflow import import_keras, import_tfmot
from stages.keras.types import KerasModel

MODEL_FILE = "model.keras"
MEDIA_TYPE = "application/vnd.keras"
VOLATILE_KEYS = frozenset({"shared_object_id", "compile_config", "build_config"})
KNOWN_PACKAGES = ("tf_keras", "keras", "tensorflow_model_optimization")
TFMOT_CLASSES = ("PruneLowMagnitude", "ClusterWeights", "Quantize")
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip entry can hold


def encode_model(model: KerasModel) -> bytes:
    """Return the bytes of `model`'s normal form: equal for equal configurations and weights, in every process."""
    return encode_copy(copy_model(model))


def encode_copy(fresh: Any) -> bytes:
    """Encode a model made by `copy_model` directly: other changes to a model would change the bytes."""
    keras = import_keras()
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        path = Path(folder) / MODEL_FILE
        keras.models.save_model(fresh, path, save_format="keras")
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    entries["config.json"] = _canonical_json(_without_volatile(json.loads(entries["config.json"])))
    # In place of Keras' own entry, which holds the time of saving.
    metadata = {"keras_version": keras.__version__, "date_saved": "1980-01-01@00:00:00"}
    entries["metadata.json"] = _canonical_json(metadata | _custom_sources(fresh) | _sizes(fresh))
    buffer = io.BytesIO()
    # Not deflated: compressed bytes depend on the zlib that Python was built with.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), entries[name])
    return buffer.getvalue()


def decode_model(path: Path) -> Any:
    """Return the `tf_keras.Model` stored at `path` (any name), not compiled."""
    keras = import_keras()
    # Keras detects formats by suffix and opens for writing: give it a separate copy.
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        copy = Path(folder) / MODEL_FILE
        shutil.copyfile(path, copy)
        try:
            with zipfile.ZipFile(copy) as archive:
                metadata = archive.read("metadata.json")
                objects = objects_in(archive.read("config.json")) | _custom_objects(metadata)
            with keras.utils.custom_object_scope(objects), weights_apart():
                # Code in files from elsewhere was refused by `load`, or accepted by the user.
                model = keras.models.load_model(copy, compile=False, safe_mode=False)
            put_shapes(model, json.loads(metadata).get("sizes", {}))
            return model
        except Exception as error:  # Keras raises whatever its layers raise
            raise ModelError(f"the stored model can't be rebuilt: {error}", where=str(path)) from error


def _custom_sources(model: KerasModel) -> dict[str, Any]:
    """Return the digests of the sources of non-Keras layers, which the model's outputs also depend on."""
    digests = {}
    for layer in model._flatten_layers():  # noqa: SLF001 - itself and all inside, nested ones too
        kind = type(layer)
        source = getattr(sys.modules.get(kind.__module__), "__file__", None)
        if source and kind.__module__.partition(".")[0] not in KNOWN_PACKAGES:
            digests[f"{kind.__module__}:{kind.__name__}"] = digest_of_file(Path(source))
    return {"custom_objects": digests} if digests else {}


def _sizes(model: KerasModel) -> dict[str, Any]:
    """Return the shapes of inputs that leave sizes open: readers of the file run and count it with them."""
    return {"sizes": shapes_of(model)} if settled(model) else {}


def _custom_objects(metadata: bytes) -> dict[str, Any]:
    """Import the classes that `_custom_sources` recorded; Keras reports missing ones."""
    classes = {}
    for full in json.loads(metadata).get("custom_objects", {}):
        module, _, name = full.partition(":")
        with suppress(ImportError, AttributeError):
            classes[name] = getattr(importlib.import_module(module), name)
    return classes


def objects_in(config: bytes | str) -> dict[str, Any]:
    """Return classes by name that a configuration may need and Keras can't find: applications' and tfmot's."""
    text = config if isinstance(config, str) else config.decode()
    return application_layers() | (_tfmot_objects() if any(name in text for name in TFMOT_CLASSES) else {})


def _tfmot_objects() -> dict[str, Any]:
    tfmot = import_tfmot()
    scopes = (
        tfmot.sparsity.keras.prune_scope,
        tfmot.clustering.keras.cluster_scope,
        tfmot.quantization.keras.quantize_scope,
    )
    return {name: kind for scope in scopes for objects in scope().custom_objects for name, kind in objects.items()}


def buildable(config: Any) -> Any:
    """Remove from a configuration what must not be read when it is built.

    Optimizers and losses of nested models are irrelevant here, and tfmot's layers would be built twice, with twice the
    variables.
    """
    if isinstance(config, dict):
        ours = str(config.get("module")).startswith("tensorflow_model_optimization")
        dropped = ("compile_config", "build_config") if ours else ("compile_config",)
        return {key: buildable(value) for key, value in config.items() if key not in dropped}
    if isinstance(config, tuple):
        return tuple(buildable(value) for value in config)
    return [buildable(value) for value in config] if isinstance(config, list) else config


def unbuilt(config: Any) -> Any:
    """Remove the shapes for which Keras would build layers at once, before they are called.

    A stored model has none either, and after a first copy they are wrong: TimeDistributed then reports those of its
    inner layer.
    """
    if isinstance(config, dict):
        dropped = ("build_config", "compile_config")
        return {key: unbuilt(value) for key, value in config.items() if key not in dropped}
    if isinstance(config, list | tuple):
        return type(config)(unbuilt(value) for value in config) if type(config) in (list, tuple) else config
    return config


def application_layers() -> dict[str, type]:
    """Return the layers of ConvNeXt and InceptionResNetV2, by name: Keras can't load them, being unregistered."""
    import_keras()
    from tf_keras.src.applications.convnext import LayerScale, StochasticDepth
    from tf_keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    return {layer.__name__: layer for layer in (LayerScale, StochasticDepth, CustomScaleLayer)}


def random_inputs(
    model: KerasModel, samples: int = 4, seed: int = 0, shapes: Mapping[str, Sequence[int]] | None = None
) -> list[Any]:
    """Return samples for each of the model's inputs: normal numbers, or zeros and ones for integers.

    `shapes`, by input name and without the batch, are the sizes if the model leaves them free.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    chosen = [(shapes or {}).get(name) for name in model.input_names]
    standing = inputs_at(model, samples) if None in chosen else [()] * len(chosen)
    wanted = zip(model.inputs, chosen, standing, strict=True)
    return [_random_input(t, (t.shape[0] or samples, *sizes) if sizes else full, rng) for t, sizes, full in wanted]


def _random_input(tensor: Any, shape: Sequence[int], rng: Any) -> Any:
    drawn = rng.standard_normal(shape) if tensor.dtype.is_floating else rng.integers(0, 2, shape)
    return drawn.astype(tensor.dtype.as_numpy_dtype)


def relative_difference(expected: Any, actual: Any) -> float:
    """Return the largest absolute output difference, relative to the largest expected value; NaN stays NaN."""
    import numpy as np

    pairs = zip(as_list(expected), as_list(actual), strict=True)
    # numpy's maximum: Python's own drops a NaN that does not come first.
    # An output of zeros has no scale: the bound only keeps the quotient defined.
    return float(np.max([np.max(np.abs(a - b)) / max(float(np.max(np.abs(a))), 1e-30) for a, b in pairs]))


def as_list(outputs: Any) -> list[Any]:
    """Return a model's outputs as arrays, always in a list."""
    import numpy as np

    arrays = [np.asarray(tensor) for tensor in (outputs if isinstance(outputs, list | tuple) else [outputs])]
    # numpy can't subtract booleans.
    return [array.astype("int8") if array.dtype == bool else array for array in arrays]


def copy_model(model: KerasModel, configured: Callable[[Any], Any] | None = None) -> Any:
    """Return a new model of the same class, configuration (trainability included) and weights; it shares nothing.

    `configured` derives the configuration to build from `model`'s, if it is not to be the same.
    """
    fresh = newly_built(model, configured)
    put_weights(fresh, model.get_weights())
    return fresh


def newly_built(model: KerasModel, configured: Callable[[Any], Any] | None = None) -> Any:
    """Return a new model of the same class and configuration, with the weights that its layers' initializers give.

    `configured` is as for `copy_model`.
    """
    classes = objects_in(" ".join(type(layer).__name__ for layer in model.layers))
    classes |= {type(layer).__name__: type(layer) for layer in model.layers}  # the user's own may be registered nowhere
    with import_keras().utils.custom_object_scope(classes):
        fresh = rebuilt(type(model), (configured or unbuilt)(model.get_config()))
    if not fresh.built:
        fresh.build(model.input_shape)
    return like(fresh, model)


def rebuilt(kind: Any, config: Any) -> Any:
    """Call `kind.from_config(config)` for a model already in memory: its code (Lambda) was accepted when it was loaded.

    Keras treats everything nested in a configuration as an untrusted file, and refuses such code.
    """
    import_keras()
    from tf_keras.src.saving.serialization_lib import SafeModeScope

    with SafeModeScope(False):
        return kind.from_config(config)


def put_weights(target: Any, weights: list[Any]) -> None:
    """Call `set_weights` on a model or layer, so that Normalization layers then use the new weights."""
    target.set_weights(weights)
    renew_constants(target)


def renew_constants(target: Any) -> None:
    """Let Normalization layers recompute their constants from their weights, which Keras forgets."""
    for layer in target._flatten_layers():  # noqa: SLF001 - itself and all inside, nested ones too
        if type(layer).__name__ == "Normalization":
            layer.finalize_state()


def keras_facts(model: KerasModel) -> KerasFacts:
    """Return parameters, MACs of one sample, signature and sparsity of a Keras model."""
    import numpy as np

    from stages.keras.macs import kernels_of, macs_of

    inputs, outputs = _specs(model.inputs, model.input_names), _specs(model.outputs, model.output_names)
    macs = macs_of(model)
    kernels = [weight.numpy() for weight in kernels_of(model)]
    weights = sum(w.size for w in kernels)
    zeros = sum(w.size - int(np.count_nonzero(w)) for w in kernels)
    return KerasFacts(
        params=int(model.count_params()),
        macs=macs.number,
        macs_unknown=macs.unknown,
        macs_size=macs.size,
        inputs=inputs,
        outputs=outputs,
        sparsity=zeros / weights if weights else 0.0,
    )


def _specs(tensors: Any, names: Any) -> tuple[TensorSpec, ...]:
    return tuple(tensor_spec(tensor, name) for tensor, name in zip(tensors, names, strict=True))


def tensor_spec(tensor: Any, name: str) -> TensorSpec:
    """Describe a model's input or output for facts. ModelError if TensorFlow does not know its rank."""
    if tensor.shape.rank is None:
        what = f"how many axes {name!r} has is not known before it runs"
        hint = "name the axes that its layer drops: tf.squeeze without axes also drops the batch where that is 1"
        raise ModelError(what, where=name, hint=hint)
    return TensorSpec(name=name, shape=tuple(tensor.shape), dtype=tensor.dtype.name)


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_volatile(item) for key, item in value.items() if key not in VOLATILE_KEYS}
    if isinstance(value, list):
        return [_without_volatile(item) for item in value]
    return value


def _canonical_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
