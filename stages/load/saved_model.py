"""Rebuild models from SavedModel folders: layers from Keras' own description, weights from the checkpoint.

The graph of operations in a SavedModel is not needed to rebuild the model, only to compare with: it runs once, on
random inputs, after all operations that it can reach were found to only compute. A SavedModel without Keras'
description (`model.export`, `tf.saved_model.save`) is a graph of operations, in which layers can no longer be told
apart; its weights can still be used for an architecture that the user names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError, reason_of
from pipeline.records.values import Json
from pipeline.system.quiet import quiet
from stages.keras.normal_form import buildable, random_inputs
from stages.keras.rounding import difference_beyond_rounding
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel, TfTensor
from stages.load.archives import check_files, refuse_large_text
from stages.load.stored import StoredModel, damage

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
    from tensorflow.core.protobuf.saved_object_graph_pb2 import SavedObject
    from tensorflow.types.experimental import ConcreteFunction

METADATA, GRAPH, CHECKPOINT = "keras_metadata.pb", "saved_model.pb", "variables/variables"
FILE_OPERATIONS = frozenset({"ReadFile", "MatchingFiles", "PyFuncStateless"})
HARMLESS_STATE = frozenset(
    {
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "AssignVariableOp",
        "Assert",
        "DisableCopyOnRead",
        "If",
        "Multinomial",
    }
    | {
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "ReadVariableOp",
        "RngReadAndSkip",
        "TruncatedNormal",
    }
    | {"StatefulPartitionedCall", "VarHandleOp", "VarIsInitializedOp", "While", "HashTableV2", "MutableHashTableV2"}
)
CALLED_ON_LOADING = frozenset({"_create_resource", "_initialize", "_destroy_resource"})
LAYERLESS = (
    "save it with tf_keras: model.save(FILE.keras); or name its layers: {path: architecture.json, weights: FOLDER}"
)


def open_saved_model(folder: Path) -> StoredModel:
    """Return Keras' description of the model in a SavedModel folder.

    Raises:
        ModelError: it is damaged, or holds no layers.
    """
    check_files(folder)
    file = folder / METADATA
    if not file.is_file():
        what = "the SavedModel holds no layers, only a graph of operations, which can't be taken apart"
        raise ModelError(what, where=str(folder), hint=LAYERLESS)
    from tf_keras.protobuf.saved_metadata_pb2 import SavedMetadata

    with damage(folder):
        refuse_large_text(file.stat().st_size, folder)
        described = SavedMetadata()
        try:
            described.ParseFromString(file.read_bytes())
        except Exception as error:  # protobuf's DecodeError is not a ValueError everywhere
            raise ModelError(f"{METADATA} in it is damaged: {error}", hint="get the folder again") from error
        root = next((node for node in described.nodes if node.node_path == "root"), None)
        metadata = _plain(json.loads(root.metadata)) if root is not None else {}
    config = metadata.get("config")
    if not isinstance(config, dict) or "layers" not in config:
        what = "the SavedModel holds a subclassed model, which has no graph of layers"
        raise ModelError(
            what, where=str(folder), hint="rebuild it with the functional API: keras.Model(inputs, outputs)"
        )
    config = {"class_name": metadata["class_name"], "config": config}
    return StoredModel(folder, "json", buildable(config), keras3=False)


def _plain(value: Json) -> Json:
    """Remove Keras' tuple marks from JSON."""
    if isinstance(value, dict):
        if value.get("class_name") == "__tuple__":
            return [_plain(item) for item in value["items"]]
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def put_checkpoint(model: KerasModel, folder: Path) -> None:
    """Copy the weights of a SavedModel folder into a model with the layers that it was saved from.

    Raises:
        ModelError: the checkpoint lacks a weight of the model, or one has another shape.
    """
    check_files(folder)
    try:
        with quiet():
            status = import_tensorflow().train.Checkpoint(model).read(str(folder / CHECKPOINT))
            # Everything in the model must be found, but not everything in the file be used: it holds the optimizer as
            # well.
            status.assert_existing_objects_matched()
    except Exception as error:  # TensorFlow has an error class for each way in which reading can fail
        hint = "the folder is damaged, or the architecture is not the one that it was saved from"
        raise ModelError(
            f"the SavedModel's weights don't fit: {reason_of(error)}", where=str(folder), hint=hint
        ) from error


def difference_from_graph(model: KerasModel, folder: Path) -> float:
    """Return the largest relative output difference between the rebuilt model and the folder's graph, on random inputs.

    Raises:
        ModelError: the graph could do more than compute, or has no signature to run.
    """
    _check_operations(folder)
    inputs = random_inputs(model)
    try:
        with quiet():
            loaded = import_tensorflow().saved_model.load(str(folder))
            run = partial(_signed, loaded.signatures["serving_default"], model)
            expected = run(inputs)
    except Exception as error:
        hint = "save the model with model.save(FILE.keras) instead"
        raise ModelError(
            f"the SavedModel can't be run to compare with: {reason_of(error)}", where=str(folder), hint=hint
        ) from error
    return difference_beyond_rounding(run, inputs, expected, model(inputs, training=False))


def _signed(signature: ConcreteFunction, model: KerasModel, inputs: list[NDArray[Any]]) -> list[TfTensor]:
    """Return what a SavedModel's signature gives, in the order of the model's outputs."""
    named = dict(zip(model.input_names, map(import_tensorflow().constant, inputs), strict=True))
    outputs = signature(**named)
    return [outputs[key] for key in (model.output_names if len(outputs) > 1 else outputs)]


def _check_operations(folder: Path) -> None:
    """Raise ModelError if what would run when the graph is loaded and called accesses files or Python."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
    from tensorflow.python.framework import op_def_registry

    file = SavedModel()
    try:
        file.ParseFromString((folder / GRAPH).read_bytes())
    except Exception as error:
        raise ModelError(
            f"{GRAPH} in it is damaged: {error}", where=str(folder), hint="get the folder again"
        ) from error
    for graph in file.meta_graphs:
        if not graph.HasField("object_graph_def"):  # TensorFlow 1: all of the graph may run when it is loaded
            raise ModelError("the SavedModel's graph is of TensorFlow 1", where=str(folder), hint=LAYERLESS)
        for operation in _reachable(graph):
            known = op_def_registry.get(operation)
            # TensorFlow calls operations stateful that touch anything besides tensors, except for those of
            # FILE_OPERATIONS.
            if known is None or operation in FILE_OPERATIONS or (known.is_stateful and operation not in HARMLESS_STATE):
                what = f"the SavedModel's graph has the operation {operation}, which may do more than compute"
                raise ModelError(what, where=str(folder), hint="save the model with model.save(FILE.keras) instead")


def _reachable(graph: MetaGraphDef) -> Iterator[str]:
    """Yield the operations that can run: of the signatures, and of what TensorFlow calls when it restores objects."""
    library = {function.signature.name: function for function in graph.graph_def.library.function}
    wanted, seen = list(_called(graph.object_graph_def.nodes)), set[str]()
    while wanted:
        name = wanted.pop()
        if name in seen or name not in library:
            continue
        seen.add(name)
        for node in library[name].node_def:
            if node.op in library:
                wanted.append(node.op)
            else:
                yield node.op
            for value in node.attr.values():
                wanted += [value.func.name, *(function.name for function in value.list.func)]


def _called(nodes: Sequence[SavedObject]) -> Iterator[str]:
    """Yield the functions that loading or the signatures call; training functions are never called here."""
    signatures = {child.node_id for child in nodes[0].children if child.local_name == "signatures"}
    node_ids = {child.node_id for signature in signatures for child in nodes[signature].children}
    for node in nodes:
        node_ids |= {child.node_id for child in node.children if child.local_name in CALLED_ON_LOADING}
        for saveable in node.saveable_objects.values():
            node_ids |= {saveable.save_function, saveable.restore_function}
    for node_id in node_ids:
        yield nodes[node_id].bare_concrete_function.concrete_function_name
        yield from nodes[node_id].function.concrete_functions
