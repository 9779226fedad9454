"""List everything in this project that only reads a Keras model, and what must be unchanged afterwards."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Arrays = Mapping[str, Any]  # samples (N, …) by input name
Looker = Callable[[Any, Arrays], object]
SCANNED = 2  # samples of a sensitivity scan
SCANNED_LAYERS = 3  # whose groups are scanned: each costs as many runs of the network


def state_of(model: Any, arrays: Arrays) -> dict[str, str]:
    """Return digests of configuration, weights, outputs on `arrays`, and attributes of the layers' instances."""
    import numpy as np

    given = [arrays[name] for name in model.input_names]
    result = model(given if len(given) > 1 else given[0], training=False)
    outputs = [np.asarray(value) for value in (result if isinstance(result, list | tuple) else [result])]
    parts = {
        "configuration": json.dumps(model.get_config(), sort_keys=True, default=repr).encode(),
        "weights": b"".join(weight.tobytes() for weight in model.get_weights()),
        "outputs": b"".join(values.tobytes() for values in outputs),
        "trainable": repr([layer.trainable for layer in _layers(model)]).encode(),
        "calls": repr([getattr(layer.__dict__.get("call"), "__qualname__", None) for layer in _layers(model)]).encode(),
    }
    return {name: hashlib.sha256(data).hexdigest()[:16] for name, data in parts.items()}


def _layers(model: Any) -> list[Any]:
    return list(model._flatten_layers())


def lookers() -> dict[str, Looker]:
    """Return each by name; one that does not apply to this network (no labels, nothing to prune) raises a
    SecateurError.
    """
    from stages.prune.ranking.criterion import criteria, declared

    found: dict[str, Looker] = {
        "record_layers": _record,
        "first_not_finite": _first_not_finite,
        "facts": _facts,
        "copy": _copy,
        "fingerprint": _fingerprint,
        "inspect": _inspect,
        "strip": _strip,
        "prune": _prune,
        "sensitivity": _scan,
        "predict": _predict,
        "tflite": lambda model, arrays: _file(model, arrays, "tflite", "float32"),
        "tflite int8": lambda model, arrays: _file(model, arrays, "tflite", "int8"),
        "onnx": lambda model, arrays: _file(model, arrays, "onnx", "float32"),
        "ladder": _ladder,
        "profile": _profile,
        "verify": _verify,
    }
    for criterion in (name for name in criteria() if declared(name).score):
        found[f"criterion {criterion}"] = _ranking(criterion)
    return found


def _record(model: Any, arrays: Arrays) -> object:
    from stages.keras.layer_calls import layer_names, record_layers

    return record_layers(model, arrays), layer_names(model)


def _first_not_finite(model: Any, arrays: Arrays) -> object:
    from stages.keras.layer_calls import first_not_finite

    return first_not_finite(model, arrays)


def _facts(model: Any, _: Arrays) -> object:
    from stages.keras.normal_form import keras_facts

    return keras_facts(model)


def _copy(model: Any, _: Arrays) -> object:
    from stages.keras.normal_form import encode_model

    return encode_model(model)


def _fingerprint(model: Any, _: Arrays) -> object:
    from stages.keras.fingerprints import fingerprint_of

    return fingerprint_of(model, threads=2)


def _inspect(model: Any, _: Arrays) -> object:
    from stages.prune.inspection import inspect_model

    return inspect_model(model, "looked at")


def _strip(model: Any, _: Arrays) -> object:
    from stages.keras.stripping.layers import strip_model

    return strip_model(model)


def _prune(model: Any, arrays: Arrays) -> object:
    from stages.prune import PruneConfig, prune_model

    data = [arrays[name] for name in model.input_names]
    return prune_model(model, PruneConfig(criterion="l2", scope="layer", ratio=0.3), data)


def _scan(model: Any, arrays: Arrays) -> object:
    import numpy as np

    from pipeline.data import Preprocess, Split
    from pipeline.errors import PreconditionError
    from stages.keras.channels.groups import channel_groups
    from stages.keras.flatten import flattened
    from stages.prune.config import ScanConfig
    from stages.prune.sensitivity.scan import scan

    if len(arrays) > 1 or len(model.outputs) > 1 or len(model.output_shape) != 2:
        raise PreconditionError("a scan is for one input and one output of classes")
    (x,) = (values[:SCANNED] for values in arrays.values())
    split = Split(
        name="test", digest="sha256:" + "0" * 64, x=x, y=np.arange(len(x)), preprocess=Preprocess(), task="classes"
    )
    makers = [name for group in channel_groups(flattened(model)).prunable for name in group.makers]
    config = ScanConfig(ratios=(0.5,), criterion="l2", exclude=tuple(dict.fromkeys(makers[SCANNED_LAYERS:])))
    with tempfile.TemporaryDirectory() as folder:
        return scan(model, config, split, None, 0, Path(folder))


def _predict(model: Any, arrays: Arrays) -> object:
    from stages.verify.predict import run_keras

    return run_keras(model, [arrays[name] for name in model.input_names])


def _ranking(criterion: str) -> Looker:
    def rank(model: Any, arrays: Arrays) -> object:
        import numpy as np

        from stages.keras.channels.groups import channel_groups
        from stages.keras.flatten import flattened
        from stages.prune.config import RankingConfig
        from stages.prune.ranking.criterion import declared
        from stages.prune.ranking.scoring import group_scores
        from stages.samples.model_samples import samples_of

        flat = flattened(model)
        data: Any = [arrays[name] for name in model.input_names]
        if declared(criterion).needs == "labels":
            data = (data, np.arange(len(data[0])) % 2)
        groups = channel_groups(flat).prunable
        config = RankingConfig.model_validate({"criterion": criterion})
        return group_scores(flat, groups, config, 0, samples_of(flat, data))

    return rank


_files: dict[tuple[int, str, str], bytes] = {}  # of the last model


def _file(model: Any, arrays: Arrays, target: str, scheme: Any) -> bytes:
    """Return the model's file, converted on first use."""
    from stages.formats.onnx.convert import convert_onnx
    from stages.formats.tflite.convert import convert_tflite

    if all(key[0] != id(model) for key in _files):
        _files.clear()
    key = (id(model), target, str(scheme))
    if key not in _files:
        calibration = [arrays[name] for name in model.input_names] if scheme == "int8" else None
        convert = convert_tflite if target == "tflite" else convert_onnx
        _files[key] = bytes(convert(model, scheme, calibration=calibration))
    return _files[key]


def _one(arrays: Arrays) -> Arrays:
    return {name: values[:1] for name, values in arrays.items()}


def _ladder(model: Any, arrays: Arrays) -> object:
    from stages.quantize.layer_errors import layer_errors

    return layer_errors(model, "tflite-model", _file(model, arrays, "tflite", "float32"), _one(arrays))


def _profile(model: Any, arrays: Arrays) -> object:
    from stages.formats.layers.operators import operators_of

    names = [model.layers[-1].name]
    return operators_of(names, model, "onnx-model", _file(model, arrays, "onnx", "float32"), _one(arrays))


def _verify(model: Any, arrays: Arrays) -> object:
    from stages.formats.check import runtime_difference
    from stages.formats.registry import load_exported

    loaded = load_exported("tflite-model", _file(model, arrays, "tflite", "float32"))
    return runtime_difference(model, loaded, [arrays[name] for name in model.input_names])
