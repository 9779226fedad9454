"""Choose the form of recurrent layers in a TFLite file, and what that means for its callers.

`fused` is the converter's own: an LSTM that it knows becomes one operator, UNIDIRECTIONAL_SEQUENCE_LSTM, whose state is
part of the file's memory and persists from one call to the next, whereas Keras starts each sample at zeros. `loop`
keeps Keras' loop over the steps (WHILE), `unrolled` writes each step out: neither remembers anything.

By default, files that compute in float32 hold loops. LiteRT 2.3 on one thread takes 0.6 of the time of `fused` for 64
steps of 128 units, 0.8 for 200 of 64, 1.1 for 64 of 32, 1.8 (0.02 ms) for 16 of 16. In integers the converter has no
loops. In int8 an LSTM is fused, because it is small: `unrolled` takes an eighth of its time and 4 to 30 times its size.
What can't be fused is unrolled, and so are bidirectional LSTMs: fused (TensorFlow 2.21) they were off by 25 to 125 % of
the outputs' spread, unrolled by 3 %. The converter has no fused LSTM in int16x8.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.errors import UnsupportedError
from pipeline.records.schemes import Quantization
from pipeline.records.values import Json
from stages.formats.layers.owners import paths_of
from stages.keras.normal_form import copy_model, unbuilt
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer, KerasModel

if TYPE_CHECKING:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

Form = Literal["fused", "loop", "unrolled"]
Recurrent = Literal["auto", "fused", "loop", "unrolled"]
LOOPS = frozenset({"While", "StatelessWhile"})
KNOWN_BY = "api_implements"  # attribute of traced functions by which the converter recognizes Keras' LSTM
MOST_STEPS = 512  # 256 steps of one LSTM take 7 s to convert, and 2.5 MB in int8
RESET = (
    "reset_all_variables() in Python, ResetVariableTensors() in C++, Reset() in TensorFlow Lite for Microcontrollers"
)


def first_form(model: KerasModel, how: Quantization, recurrent: Recurrent) -> Form:
    """Return the form to try first in a scheme; UnsupportedError if the scheme has none of that name."""
    if how.calibrated and recurrent == "loop":
        what = f"TFLite's converter has no loops in {how.scheme}"
        hint = "take unrolled, or fused where all of them are LSTMs in one direction"
        raise UnsupportedError(what, where="export.recurrent", hint=hint)
    if recurrent != "auto":
        return recurrent
    layers = import_keras().layers
    both_ways = any(isinstance(layer, layers.Bidirectional) for layer in model._flatten_layers())  # noqa: SLF001 - as below
    if how.scheme == "int8":
        return "unrolled" if both_ways else "fused"
    return "unrolled" if how.calibrated and recurrent_layers(model) else "loop"


def recurrent_layers(model: KerasModel) -> list[KerasLayer]:
    """Return all layers that step through a sequence, including those in nested models and wrappers."""
    kind = import_keras().layers.RNN
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]  # noqa: SLF001 - nested ones too


def unrolled(model: KerasModel) -> KerasModel:
    """Copy `model` with recurrent layers that write each step out; UnsupportedError if one of them can't.

    Only Keras' own setting `unroll` differs.
    """
    hint = "take a scheme that computes in float32: there it stays a loop"
    for layer in recurrent_layers(model):
        if type(layer).__name__.startswith("ConvLSTM"):
            (name,) = paths_of(model, [layer])
            what = f"layer {name!r} ({type(layer).__name__}) is a loop over its steps, and can't be unrolled"
            raise UnsupportedError(what, where=model.name, hint=hint)
    for name, steps in _steps(model):
        if steps is None or steps > MOST_STEPS:
            reason = f"has {steps} steps" if steps else "leaves its number of steps free"
            what = f"layer {name!r} {reason}, and can be unrolled up to {MOST_STEPS}"
            raise UnsupportedError(what, where=model.name, hint=hint)
    return copy_model(model, lambda config: _with_unrolling(unbuilt(config)))


def _steps(model: KerasModel) -> Iterator[tuple[str, int | None]]:
    """Yield how many steps recurrent layers take, by the name of the layer, or of the wrapper around it."""
    layers = import_keras().layers
    for layer in model._flatten_layers():  # noqa: SLF001 - nested ones too
        inner = getattr(layer, "layer", layer)
        if isinstance(inner, layers.RNN) and layer.inbound_nodes:
            shape = layer.get_input_shape_at(0)
            shape = shape[0] if isinstance(shape, list) else shape
            # A TimeDistributed layer takes (batch, time, steps, …): its own axis comes before the steps.
            yield paths_of(model, [layer])[0], shape[2 if type(layer) is layers.TimeDistributed else 1]


def _with_unrolling(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: True if key == "unroll" else _with_unrolling(item) for key, item in value.items()}
    return type(value)(map(_with_unrolling, value)) if type(value) in (list, tuple) else value


def keep_loops(folder: str) -> None:
    """Hide the LSTMs of a SavedModel from the converter, so that it leaves them as loops."""
    path = Path(folder) / "saved_model.pb"
    saved = _saved_model(path)
    functions = [function for graph in saved.meta_graphs for function in graph.graph_def.library.function]
    known = [function for function in functions if KNOWN_BY in function.attr]
    for function in known:
        # In the saved graph, so that nothing in the Keras model changes.
        del function.attr[KNOWN_BY]
    if known:
        path.write_bytes(saved.SerializeToString(deterministic=True))


def has_loops(folder: str) -> bool:
    """Return whether a SavedModel contains a loop, including one that the converter recognizes as an LSTM."""
    graphs = [meta.graph_def for meta in _saved_model(Path(folder) / "saved_model.pb").meta_graphs]
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for graph in graphs for function in graph.library.function for node in function.node_def]
    return any(node.op in LOOPS for node in nodes)


def _saved_model(path: Path) -> SavedModel:
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel.FromString(path.read_bytes())


def keeps_state(data: bytes) -> bool:
    """Return whether a TFLite file keeps state from one call to the next, that is, has a variable tensor."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    # LiteRT keeps variables until they are reset by hand: https://github.com/tensorflow/tensorflow/issues/47813.
    return any(graph.Tensors(index).IsVariable() for graph in graphs for index in range(graph.TensorsLength()))
