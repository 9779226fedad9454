"""Convert models that Keras 3 has quantized (`model.quantize("int8")`) to float32 models with the same weights.

Keras stores kernels as integers with a scale, and rounds a layer's inputs at each call. Here a model is float32 until
`quantize` says otherwise, so kernels are multiplied out; intermediate rounding is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError, numbered, reason_of
from pipeline.records.values import Json
from stages.keras.free_sizes import DATA, NOTHING, Wanted, candidates, require_something_left
from stages.keras.normal_form import relative_difference
from stages.keras.types import KerasLayer, KerasModel, TfTensor, TfVariable

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAKEN = ("int8", "float8")  # the others store kernels in groups with offsets, in ways that change with each release
MOST_DIFFERENT = 0.25  # of the largest output: 8 bits are off by a few hundredths
OTHER_SIZES = "say sizes at which it does: `model: {path: …, sizes: …}`"
HINT = "save the model from before `model.quantize(…)`: a recipe's `quantize` stage does that work"


def without_quantization(
    original: KerasModel, custom_objects: Mapping[str, Any], wanted: Wanted = NOTHING
) -> tuple[KerasModel, tuple[str, ...]]:
    """Return a Keras 3 model without quantized weights, and a note if it had some; `original` itself if it had none.

    `custom_objects` are Keras 3's by name; `wanted` gives sizes that it leaves open. ModelError, with the layer, for
    quantization that is not undone here.
    """
    quantized = [layer for layer in original._flatten_layers() if _mode(layer)]  # noqa: SLF001 - nested ones too
    if not quantized:
        return original, ()
    for layer in quantized:
        if _mode(layer) not in TAKEN or not (hasattr(layer, "_kernel") or hasattr(layer, "_embeddings")):
            what = f"weights of layer {layer.name!r} ({type(layer).__name__}) are quantized to {_mode(layer)}"
            raise ModelError(what, where=layer.name, hint=HINT)
    plain = _in_float(original, custom_objects)
    pairs = zip(original._flatten_layers(), plain._flatten_layers(), strict=True)  # noqa: SLF001 - as above
    for old, new in pairs:
        _put(old, new)
    inputs, outputs = _run(plain, wanted)
    difference = relative_difference(_outputs(original, inputs), outputs)
    # Not `>`: NaN has to fail.
    if not difference <= MOST_DIFFERENT:
        what = f"with its weights multiplied out, the model's outputs differ by {difference:.0%}"
        raise ModelError(what, where=original.name, hint=HINT)
    modes = ", ".join(dict.fromkeys(str(_mode(layer)) for layer in quantized))
    were = f"{numbered(len(quantized), 'layer')} {'was' if len(quantized) == 1 else 'were'}"
    note = f"{were} quantized to {modes} by Keras: the weights are float32 from here on"
    return plain, (f"{note}, outputs differ from the quantized model's by {difference:.1%}",)


def _mode(layer: KerasLayer) -> str | None:
    """Return `int8` or another mode, for a layer whose own weights are quantized."""
    has_own = any(hasattr(layer, name) for name in ("_kernel", "_embeddings"))
    return getattr(layer, "quantization_mode", None) if has_own else None


def _in_float(original: KerasModel, custom_objects: Mapping[str, Any]) -> KerasModel:
    """Return a model of the same configuration whose layers have their previous types."""
    import keras

    def plain(value: Json) -> Json:
        if isinstance(value, dict):
            if "DTypePolicy" in str(value.get("class_name")) and "source_name" in value.get("config", {}):
                settings = {"name": value["config"]["source_name"]}
                return {"module": "keras", "class_name": "DTypePolicy", "config": settings, "registered_name": None}
            return {key: None if key == "quantization_config" else plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list) else value

    config = json.dumps(plain(json.loads(original.to_json())))
    return keras.models.model_from_json(config, custom_objects=dict(custom_objects))


def _put(old: KerasLayer, new: KerasLayer) -> None:
    """Copy what a layer of `old` itself holds, without its inner layers, to its counterpart in `new`."""
    import numpy as np

    values = {variable.name: np.asarray(variable) for variable in _own(old)}
    if _mode(old) == "int8":
        name = "kernel" if hasattr(old, "_kernel") else "embeddings"
        scale = np.asarray(getattr(old, f"{name}_scale"))
        if hasattr(old, "_adjust_scale_for_dequant"):  # EinsumDense, whose scale has the outputs' axes
            scale = np.asarray(old._adjust_scale_for_dequant(scale))  # noqa: SLF001
        scale = scale[:, None] if name == "embeddings" else scale
        # Keras multiplies by its scale when it quantizes, so weights are divided by it.
        values[name] = np.asarray(getattr(old, f"_{name}"), np.float32) / scale
    for variable in _own(new):
        variable.assign(values[variable.name])


def _own(layer: KerasLayer) -> list[TfVariable]:
    """Return the variables that a layer holds itself."""
    inside = {id(v) for part in layer._flatten_layers(include_self=False) for v in part.variables}  # noqa: SLF001
    return [variable for variable in layer.variables if id(variable) not in inside]


def _run(model: KerasModel, wanted: Wanted) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return random samples at the first shapes at which the model runs, and its outputs.

    ModelError if a wanted size is none of these.
    """
    message, inputs = "", list[Any]()
    for shapes in candidates(model, wanted):
        inputs = _inputs(model, shapes)
        try:
            if shapes:
                require_something_left(partial(_called, model), model, [array.shape for array in inputs])
            return inputs, _outputs(model, inputs)
        except Exception as error:  # noqa: BLE001 - Keras raises whatever its layers raise
            message = message or reason_of(error)
    where = wanted.setting if wanted.sizes is not None else DATA if wanted.samples else model.name
    sizes = ", ".join("×".join(map(str, array.shape[1:])) for array in inputs)
    raise ModelError(f"the network can't run at {sizes}: {message}", where=where, hint=OTHER_SIZES)


def _inputs(model: KerasModel, shapes: Mapping[str, Sequence[int]]) -> list[NDArray[Any]]:
    """Return samples for each of the model's inputs, drawn as `random_inputs` does for tf_keras."""
    import numpy as np

    rng, inputs = np.random.default_rng(0), []
    for tensor in model.inputs:
        shape = (tensor.shape[0] or 4, *shapes.get(tensor.name, tuple(tensor.shape[1:])))
        drawn = rng.standard_normal(shape) if "float" in str(tensor.dtype) else rng.integers(0, 2, shape)
        inputs.append(drawn.astype(str(tensor.dtype)))
    return inputs


def _called(model: KerasModel, inputs: list[NDArray[Any]]) -> TfTensor:
    import keras

    structure = getattr(model, "_inputs_struct", model.inputs)
    return model(keras.tree.pack_sequence_as(structure, inputs), training=False)


def _outputs(model: KerasModel, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
    import keras
    import numpy as np

    return [np.asarray(keras.ops.convert_to_numpy(t)) for t in keras.tree.flatten(_called(model, inputs))]
