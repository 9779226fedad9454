"""Normalize ONNX graphs: one form for those that compute the same with the same nodes.

tf2onnx and ONNX Runtime's quantizer number names by process-wide counters and order nodes by hash: two exports of one
model differ in bytes. The structure is stable: outputs in order, and for each node its inputs in order. So nodes are
ordered depth first from the outputs, and every name follows from an operator and its place in that order. Only the
names of the graph's inputs and outputs, which are its interface, are kept. No layer name is: which of two equal nodes
survives a merge is not determined, so neither is its name.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ModelError
from stages.formats.onnx.tensor_data import content_digest, is_outside, reference

if TYPE_CHECKING:
    from onnx import (
        AttributeProto,
        GraphProto,
        ModelProto,
        NodeProto,
        StringStringEntryProto,
        TensorProto,
        ValueInfoProto,
    )


def canonicalize(model: ModelProto, folder: Path | None = None, *, outside: bool = False) -> ModelProto:
    """Return a new ModelProto, equal (in bytes) for models that differ in names and node order only.

    Nodes that no output needs, unused operator sets, intermediate shapes and documentation are left out; initializers
    of equal content are merged. External ones, with data in `folder`, are read one by one and are internal afterwards,
    or stay `outside` if one message would not hold them all. Idempotent. ModelError for local functions and sparse
    initializers.
    """
    import onnx

    if model.functions or model.graph.sparse_initializer:
        raise ModelError("an ONNX model with local functions or sparse initializers has no normal form here")
    properties: list[StringStringEntryProto] = sorted(model.metadata_props, key=lambda entry: str(entry.key))
    # A new message and not the old one changed: documentation, intermediate shapes and unused operator sets are simply
    # not copied. tf2onnx's own output is not reproducible (https://github.com/onnx/tensorflow-onnx/issues/2006).
    form = onnx.ModelProto(
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        metadata_props=properties,
    )
    _rename_main(model.graph, form.graph, folder, outside=outside)
    _name_dimensions(form.graph)
    # ONNX Runtime 1.31 writes every operator set that it knows into the files that it saves, nine where one is used.
    used = {node.domain for node in _all_nodes(form.graph)} | {""}
    versions = {_domain(entry.domain): entry.version for entry in model.opset_import}
    form.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in sorted(versions.items()) if d in used)
    return form


def serialize(model: ModelProto) -> bytes:
    """Return the bytes of a model in normal form, the same in every process."""
    return bytes(model.SerializeToString(deterministic=True))


@dataclass(slots=True)
class _Names:
    """Share what all graphs of a model need while it is renamed: numbers of nodes, names in use, locations of data."""

    numbers: Counter[str] = field(default_factory=Counter)
    taken: set[str] = field(default_factory=set)
    folder: Path | None = None
    outside: bool = False

    def node(self, op_type: str) -> str:
        self.numbers[op_type] += 1
        return self.free(f"{op_type}_{self.numbers[op_type] - 1}")

    def free(self, wanted: str) -> str:
        name = wanted
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name


def _rename_main(source: GraphProto, target: GraphProto, folder: Path | None, *, outside: bool) -> None:
    """Rename the main graph: its inputs and outputs keep their names."""
    constant = {tensor.name for tensor in source.initializer}
    interface = {v.name: v.name for v in (*source.input, *source.output) if v.name not in constant}
    # Reserved before anything is named: a node's output must not get the name of a later input or output.
    taken = set(interface) | {value.name for value in source.output}
    names = _Names(taken=taken, folder=folder, outside=outside)
    _rename(source, target, interface, names)


def _rename(source: GraphProto, target: GraphProto, known: Mapping[str, str], names: _Names) -> None:
    """Fill `target` with `source` under new names.

    `known` maps old to new names of the interface and surroundings, which are named already. The target is filled in
    place, because protobuf copies whatever is put into a message, including all weights.
    """
    new = dict(known)
    constants = _Constants(source, target, new, names)
    for node in ordered_nodes(source):
        name = names.node(node.op_type)
        # A constant that only a loop's body reads has its name from the loop node: it is a value of the enclosing
        # graph.
        for index, old in enumerate([*node.input, *_captured_by(node)]):
            constants.use(old, f"{name}_in{index}")
        for index, old in enumerate(node.output):
            if old:
                new[old] = known.get(old) or names.free(f"{name}_out{index or ''}")
        _rename_node(node, target.node.add(), name, new, names)
    for value in source.output:
        constants.use(value.name, value.name)
    target.name = "graph"
    target.input.extend(_value(value, new[value.name]) for value in _true_inputs(source))
    target.output.extend(_value(value, new[value.name]) for value in source.output)


class _Constants:
    """Add the initializers of one graph, named, to the target at their first use, equal ones once."""

    def __init__(self, source: GraphProto, target: GraphProto, new: dict[str, str], names: _Names) -> None:
        self._target = target
        self._waiting = {tensor.name: tensor for tensor in source.initializer}
        self._outputs = {value.name for value in source.output}
        self._new, self._names = new, names
        self._name_of: dict[str, str] = {}  # content digest -> new name

    def use(self, old: str, wanted: str) -> None:
        if old not in self._waiting:
            return
        tensor, content = self._read(self._waiting.pop(old))
        # It keeps its own name even if an equal constant has been named already, since the name is part of the
        # interface.
        if old in self._outputs:
            self._new[old] = old
        elif content in self._name_of:
            self._new[old] = self._name_of[content]
            return
        else:
            self._new[old] = self._name_of[content] = self._names.free(wanted)
        tensor.name = self._new[old]
        self._target.initializer.append(tensor)

    def _read(self, tensor: TensorProto) -> tuple[TensorProto, str]:
        """Return the tensor in the target's form, and the digest of its content."""
        if self._names.outside and self._names.folder is not None and is_outside(tensor):
            return reference(tensor), content_digest(tensor, self._names.folder)
        inside = _tensor(tensor, self._names.folder)
        return inside, hashlib.sha256(inside.SerializeToString(deterministic=True)).hexdigest()


def _rename_node(node: NodeProto, target: NodeProto, name: str, new: Mapping[str, str], names: _Names) -> None:
    target.op_type, target.domain, target.overload = node.op_type, _domain(node.domain), node.overload
    target.name = name
    target.input.extend(new[old] if old else "" for old in node.input)
    target.output.extend(new[old] if old else "" for old in node.output)
    for attribute in _attributes(node):
        _rename_attribute(attribute, target.attribute.add(), name, new, names)


def _rename_attribute(
    attribute: AttributeProto, target: AttributeProto, owner: str, new: Mapping[str, str], names: _Names
) -> None:
    target.CopyFrom(attribute)
    target.ClearField("doc_string")
    if attribute.HasField("t"):
        target.t.CopyFrom(_tensor(attribute.t, names.folder))
    if attribute.HasField("g"):
        target.ClearField("g")
        _rename_subgraph(attribute.g, target.g, owner, new, names)
    if attribute.graphs:
        # Emptied first: `CopyFrom` above brought the old subgraphs along.
        del target.graphs[:]
        for graph in attribute.graphs:
            _rename_subgraph(graph, target.graphs.add(), owner, new, names)


def _rename_subgraph(source: GraphProto, target: GraphProto, owner: str, new: Mapping[str, str], names: _Names) -> None:
    inputs = {v.name: names.free(f"{owner}_given{index}") for index, v in enumerate(_true_inputs(source))}
    _rename(source, target, {**new, **inputs}, names)


def ordered_nodes(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes that outputs need, each after what it reads: depth first from the outputs, inputs in order."""
    maker = {output: node for node in graph.node for output in node.output if output}
    # By outputs first and by inputs in order, which do not depend on the order of nodes in the file.
    order: list[NodeProto] = []
    placed: set[int] = set()
    for value in graph.output:
        # A stack instead of recursion: real graphs are deeper than Python's limit.
        pending = [(maker[value.name], False)] if value.name in maker else []
        while pending:
            node, ready = pending.pop()
            if id(node) in placed:
                continue
            if ready:
                placed.add(id(node))
                order.append(node)
                continue
            pending.append((node, True))
            read = [*node.input, *_captured_by(node)]
            pending.extend((maker[name], False) for name in reversed(read) if name in maker)
    return order


def _captured_by(node: NodeProto) -> list[str]:
    """Return names that a node's subgraphs read from enclosing graphs, in reading order."""
    return [name for graph in _subgraphs(node) for name in _captured(graph)]


def _captured(graph: GraphProto) -> list[str]:
    nodes = ordered_nodes(graph)
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {name for node in nodes for name in node.output}
    read = [name for node in nodes for name in (*node.input, *_captured_by(node))]
    read += [value.name for value in graph.output]
    return [name for name in dict.fromkeys(read) if name and name not in own]


def count_operators(model: ModelProto) -> dict[str, int]:
    """Count how often each operator occurs, including subgraphs, as `Conv: 18`."""
    return dict(sorted(Counter(node.op_type for node in _all_nodes(model.graph)).items()))


def _subgraphs(node: NodeProto) -> list[GraphProto]:
    return [graph for a in _attributes(node) for graph in ([a.g] if a.HasField("g") else list(a.graphs))]


def _attributes(node: NodeProto) -> list[AttributeProto]:
    return sorted(node.attribute, key=lambda attribute: str(attribute.name))


def _all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for subgraph in _subgraphs(node):
            yield from _all_nodes(subgraph)


def _true_inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """Return the inputs that a caller provides; old files also list initializers there."""
    constant = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in constant]


def _tensor(tensor: TensorProto, folder: Path | None) -> TensorProto:
    """Return a nameless copy with its numbers in the one field that holds them as bytes: `raw_data`."""
    import onnx

    if tensor.data_type == onnx.TensorProto.STRING:
        return onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, string_data=tensor.string_data)
    # One number may stand in `float_data`, `raw_data` or a file: equal constants must have equal bytes to be merged.
    return onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor, str(folder or "")))


def _value(value: ValueInfoProto, name: str) -> ValueInfoProto:
    import onnx

    return onnx.ValueInfoProto(name=name, type=value.type)


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _name_dimensions(graph: GraphProto) -> None:
    """Name free sizes `batch` (the first of the first input) and `dim_1`, `dim_2` … in order of occurrence."""
    new: dict[str, str] = {}
    for value in (*graph.input, *graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_param"):
                first = not new and axis == 0
                dim.dim_param = new.setdefault(dim.dim_param, "batch" if first else f"dim_{len(new)}")
