"""Convert a Keras model to an ONNX graph by tf2onnx, with the weights next to it instead of in it.

tf2onnx freezes every weight into the graph and then carries it through a dozen passes, each of which copies the graph:
Xception took 82 s and 6.3 GB, of which the graph itself needs 1.5 s and 120 kB. Here the weights with more than one
axis become inputs of the graph. They return at the end as data in a separate file, and what tf2onnx would have computed
from them (transposed kernels) is left to ONNX Runtime's constant folding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline.errors import UnsupportedError, reason_of
from stages.formats.layers.owners import lacking
from stages.formats.onnx.resize import resize_handlers
from stages.formats.onnx.tensor_data import PAGE_BYTES, place
from stages.formats.onnx.tf2onnx_passes import InPlacePasses
from stages.formats.onnx.transposed import transposed_handlers
from stages.keras.serving import Shapes, input_specs, require_size, serving_function
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel, TfVariable
from stages.keras.unranked import declare_ranks

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto
    from tensorflow import Graph as TfGraph
    from tensorflow import TensorShape
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    from tensorflow.types.experimental import ConcreteFunction
    from tf2onnx.graph import Graph as Tf2onnxGraph
    from tf2onnx.graph import Node as Tf2onnxNode

NEWEST_OPSET, BEST_OPSET = 18, 17  # that tf2onnx knows; newer sets are converted from the one that comes out best
LEAST_BYTES = 1024  # of a weight that is kept out of the graph
SPATIAL_RANK = 4  # inputs with height, width and channels, which have a layout


@dataclass(frozen=True, slots=True)
class Graph:
    """Hold a ModelProto in which the named `weights` are still inputs, and their values."""

    model: ModelProto
    weights: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write the model to `path`, its weights to `weights.bin` next to it."""
        import onnx

        graph = self.model.graph
        inputs = [value for value in graph.input if value.name not in self.weights]
        del graph.input[:]
        graph.input.extend(inputs)
        with (path.parent / "weights.bin").open("wb") as file:
            for name, variable in self.weights.items():
                values = variable.numpy()
                # At pages, so that ONNX Runtime maps the file instead of reading it into memory.
                file.write(bytes(-file.tell() % PAGE_BYTES))
                tensor = graph.initializer.add(
                    name=name,
                    dims=values.shape,
                    data_type=onnx.helper.np_dtype_to_tensor_dtype(values.dtype),
                )
                place(tensor, "weights.bin", file.tell(), values.nbytes)
                file.write(values.data)
        path.write_bytes(self.model.SerializeToString())

    def forget(self, path: Path) -> None:
        """Delete what `save` wrote: weights may be gigabytes."""
        path.unlink()
        path.with_name("weights.bin").unlink()


def onnx_graph(
    model: KerasModel, opset: int, layout: str = "nhwc", batch: int | None = None, shapes: Shapes | None = None
) -> Graph:
    """Return tf2onnx's graph of a Keras model, its transposes moved away, inputs and outputs named as in Keras.

    `layout` is that of inputs of rank 4; `batch` (None keeps it free) and `shapes` set sizes that the model leaves
    free. ModelError names what ONNX has no operator for, and the layer that needs it.
    """
    tf = import_tensorflow()
    from tf2onnx import tf_loader

    with _convolutions_in_the_open(model):
        function = serving_function(tf, model, input_specs(tf, model, batch, shapes)).get_concrete_function()
    inputs = [tensor.name for tensor in function.inputs[: len(model.inputs)]]
    outputs = [function.structured_outputs[name].name for name in model.output_names]
    names = dict(zip([*inputs, *outputs], [*model.input_names, *model.output_names], strict=True))
    beside = _with_weights_beside(tf, function)
    if beside is not None:
        definition, weights = beside
        definition = _optimized(tf, definition, [*inputs, *weights], outputs)
        tables: dict[Any, Any] = {}
    else:  # loops, lookups: tf2onnx can freeze them
        require_size(model, "the graph that loops and lookups (LSTM, Embedding) are frozen into")
        weights = {}
        with tf.device("/cpu:0"):
            definition, tables = tf_loader.from_trackable(model, function, inputs, outputs, large_model=False)
    _spell_out(tf, definition)
    settings = {
        # The weights are still inputs here, so onnx's version converter changes a graph of some hundred kilobytes.
        "opset": opset if opset <= NEWEST_OPSET else BEST_OPSET,
        "input_names": [*inputs, *weights],
        "output_names": outputs,
        "tensors_to_rename": names,
        "initialized_tables": tables,
        "custom_op_handlers": {**resize_handlers(), **transposed_handlers()},
        "inputs_as_nchw": _spatial(model, inputs) if layout == "nchw" else None,
    }
    converted = _converted(tf, model, definition, settings)
    declare_ranks(model, _of(converted.graph.output, model.output_names), shapes)
    for value in _of(converted.graph.output, model.output_names):
        _declare_sizes(value, function.structured_outputs[value.name].shape)
    for value, tensor in zip(
        (*_of(converted.graph.input, model.input_names), *_of(converted.graph.output, model.output_names)),
        (*model.inputs, *model.outputs),
        strict=True,
    ):
        if tensor.shape.rank and tensor.shape[0] is None and batch is None:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return Graph(converted if opset <= NEWEST_OPSET else _in_opset(converted, opset, model.name), weights)


def _declare_sizes(value: ValueInfoProto, shape: TensorShape) -> None:
    """Write the sizes that TensorFlow knows of an output if tf2onnx lost them."""
    dimensions = value.type.tensor_type.shape.dim
    if shape.rank == len(dimensions):
        for dimension, size in zip(dimensions, shape, strict=True):
            if size is not None and not dimension.HasField("dim_value"):
                dimension.dim_value = size


def _in_opset(graph: ModelProto, opset: int, name: str) -> ModelProto:
    """Return the graph in a newer operator set, by the standard's own converter."""
    import onnx
    from onnx import version_converter

    try:
        newer = version_converter.convert_version(graph, opset)
    except Exception as error:  # its C++ has several kinds
        what = f"operator set {opset} can't hold the model, says onnx's converter: {reason_of(error)}"
        raise UnsupportedError(what, where=name, hint=f"export.opset: {BEST_OPSET}") from error
    # onnx 1.23's converter leaves the IR version as it was, which belongs to the older set.
    newer.ir_version = max(newer.ir_version, onnx.helper.find_min_ir_version_for(newer.opset_import))
    return newer


@contextmanager
def _convolutions_in_the_open(model: KerasModel) -> Iterator[None]:
    """Trace without XLA: Keras has it compile grouped convolutions, as functions that tf2onnx does not look into."""
    # On the instance, where it shadows the method of the class, so that deleting it restores exactly what was there.
    layers = [layer for layer in model._flatten_layers() if getattr(layer, "groups", 1) != 1]  # noqa: SLF001
    hidden = [layer for layer in layers if hasattr(layer, "_jit_compiled_convolution_op")]
    for layer in hidden:
        layer._jit_compiled_convolution_op = layer.convolution_op  # noqa: SLF001 - what it is called for
    try:
        yield
    finally:
        for layer in hidden:
            del layer._jit_compiled_convolution_op  # noqa: SLF001


def _of(values: Iterable[ValueInfoProto], names: Sequence[str]) -> list[ValueInfoProto]:
    by_name = {value.name: value for value in values}
    return [by_name[name] for name in names]


def _spatial(model: KerasModel, inputs: Sequence[str]) -> list[str]:
    return [name for name, tensor in zip(inputs, model.inputs, strict=True) if tensor.shape.rank == SPATIAL_RANK]


def _with_weights_beside(tf: ModuleType, function: ConcreteFunction) -> tuple[GraphDef, dict[str, TfVariable]] | None:
    """Return the function's GraphDef with each large variable as a placeholder, and the variables by tensor name.

    None if variables are used other than by plain reads, or functions are called (loops, conditions).
    """
    definition = function.graph.as_graph_def()
    if definition.library.function:
        return None
    variables = {id(variable.handle): variable for variable in function.variables}
    captured = list(function.captured_inputs)
    # Not `[-len(captured):]`, which is everything if nothing is captured.
    placeholders = function.inputs[len(function.inputs) - len(captured) :]
    held = {placeholder.op.name: tensor for placeholder, tensor in zip(placeholders, captured, strict=True)}
    resources = {name: variables.get(id(tensor)) for name, tensor in held.items() if tensor.dtype == tf.resource}
    # A lookup table is a resource and no variable.
    if any(variable is None for variable in resources.values()):
        return None
    graph_def = tf.compat.v1.GraphDef(versions=definition.versions)
    weights, first_read = dict[str, Any](), dict[str, str]()
    for node in definition.node:
        sources = [name.lstrip("^").partition(":")[0] for name in node.input]
        if node.name in resources:
            continue
        if node.name in held:
            graph_def.node.append(_constant(tf, node.name, held[node.name]))
        # Else the weight would be an input twice, and twice in the file until equal ones are merged.
        elif node.op == "ReadVariableOp" and sources[0] in first_read:  # a layer that is called twice
            twin = graph_def.node.add(name=node.name, op="Identity", input=[first_read[sources[0]]])
            twin.attr["T"].type = node.attr["dtype"].type
        elif node.op == "ReadVariableOp" and sources[0] in resources:
            first_read[sources[0]] = node.name
            graph_def.node.append(_weight(tf, node.name, resources[sources[0]], weights))
        elif not resources.keys().isdisjoint(sources):
            return None
        else:
            graph_def.node.append(node)
    return graph_def, weights


def _weight(tf: ModuleType, name: str, variable: TfVariable, weights: dict[str, TfVariable]) -> NodeDef:
    """Return the replacement of a variable's read: a placeholder, which goes into `weights`, or a small constant."""
    # Vectors stay: tf2onnx looks at the numbers of biases and normalizations to decide what it makes of them.
    if len(variable.shape) < 2 or variable.shape.num_elements() * variable.dtype.size < LEAST_BYTES:
        return _constant(tf, name, variable)
    weights[f"{name}:0"] = variable
    node = tf.compat.v1.NodeDef(name=name, op="Placeholder")
    node.attr["dtype"].type = variable.dtype.as_datatype_enum
    node.attr["shape"].shape.CopyFrom(variable.shape.as_proto())
    return node


def _constant(tf: ModuleType, name: str, values: TfVariable) -> NodeDef:
    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = values.dtype.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values.numpy(), dtype=values.dtype))
    return node


def _optimized(tf: ModuleType, definition: GraphDef, inputs: list[str], outputs: list[str]) -> GraphDef:
    """Fold constants with TensorFlow, as tf2onnx requests it."""
    from tf2onnx import tf_loader

    with tf.device("/cpu:0"), tf.Graph().as_default():
        tf.import_graph_def(definition, name="")
        return tf_loader.tf_optimize(inputs, outputs, definition)


def _spell_out(tf: ModuleType, definition: GraphDef) -> None:
    """Replace what tf2onnx does not know with what it does: erfc(x), of GELU, is 1 - erf(x)."""
    for node in [node for node in definition.node if node.op == "Erfc"]:
        kind = node.attr["T"]
        one, erf = f"{node.name}/one", f"{node.name}/erf"
        value = tf.make_tensor_proto(1.0, dtype=kind.type)
        definition.node.add(name=one, op="Const", attr={"dtype": kind, "value": tf.compat.v1.AttrValue(tensor=value)})
        definition.node.add(name=erf, op="Erf", input=list(node.input), attr={"T": kind})
        node.op = "Sub"
        del node.input[:]
        node.input.extend([one, erf])


def _converted(tf: ModuleType, model: KerasModel, definition: GraphDef, settings: dict[str, Any]) -> ModelProto:
    """Return the ModelProto of a GraphDef; if a pass fails, tf2onnx's own way is used, which leaves the pass out."""
    from tf2onnx import optimizer

    in_place = InPlacePasses()
    for passes in ({"in_place": lambda: in_place}, None):
        with tf.device("/cpu:0"), tf.Graph().as_default() as graph:
            tf.import_graph_def(definition, name="")
            converted = _processed(model, graph, settings)
            converted = optimizer.optimize_graph(converted, catch_errors=True, optimizers=passes)
        if passes is None or in_place.finished:
            break
    made: ModelProto = converted.make_model("a Keras model")
    return made


def _processed(model: KerasModel, graph: TfGraph, settings: dict[str, Any]) -> Tf2onnxGraph:
    """Return tf2onnx's Graph; ModelError if an operator has no counterpart."""
    import onnx
    from tf2onnx import tfonnx

    converted = tfonnx.process_tf_graph(graph, continue_on_error=True, **settings)
    known = {schema.name for schema in onnx.defs.get_all_schemas()} | {"Placeholder", "Const"}
    missing = [node for node in _used(converted) if node.domain in ("", "ai.onnx") and node.type not in known]
    if missing:
        raise UnsupportedError(
            lacking(model, "ONNX", [(node.type, node.name) for node in missing]),
            where=model.name,
            hint="replace these layers by ones of standard operators, or leave onnx out of export.formats",
        )
    return converted


def _used(graph: Tf2onnxGraph) -> Iterator[Tf2onnxNode]:
    """Yield the nodes that a graph's outputs need, including those in the bodies of its loops and conditions.

    tf2onnx leaves nodes that it has replaced, such as the Any of a mask. Its own `delete_unused_nodes` must not run
    before its optimizers: it also removed a ReverseSequence that is needed (masked Bidirectional LSTM and GRU).
    """
    for node in graph.extract_sub_graph_nodes(graph.outputs, remove_unused_inputs=False):
        yield node
        for body in (node.get_body_graphs() or {}).values():
            yield from _used(body)
