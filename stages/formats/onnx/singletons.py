"""Remove axes of size 1 that come and go: TensorFlow runs one-dimensional layers as two-dimensional ones.

Around each such layer tf2onnx's graph inserts an axis, moves it to the height axis of images, and drops it again. A
Transpose that moves only such an axis can be replaced by inserting the axis elsewhere. A convolution or pooling does
nothing along it, so that the standard, which has one-dimensional versions of both, needs no such axis at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stages.formats.onnx.canonical import ordered_nodes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

Sizes = list[int | None]
RANK = 4  # batch, channels, the axis of size 1, and the only real one
WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
WITH_KERNEL = ("Conv", "ConvTranspose")
NOTHING = {"kernel_shape": 1, "strides": None, "dilations": None, "pads": 0, "output_padding": 0}  # along one axis


def without_singletons(model: ModelProto) -> None:
    """Rewrite the main graph of a ModelProto in place."""
    if not any(node.op_type == "Unsqueeze" for node in model.graph.node):
        return
    graph = _Graph(model.graph)
    reshaped = any(n.op_type == "Reshape" and graph.made_by("Unsqueeze", n.input[0]) for n in model.graph.node)
    shapes = _shapes(model) if reshaped else {}
    for node in list(model.graph.node):
        if node.op_type == "Transpose":
            _insert_elsewhere(graph, node)
        elif node.op_type == "Squeeze":
            _drop_elsewhere(graph, node)
        elif node.op_type == "Reshape":
            _insert_as_reshaped(graph, node, shapes)
    for node in list(model.graph.node):
        if node.op_type in WINDOWS:
            _reduce(graph, node)
    # Copies: the messages live in the list that is emptied on the next line.
    kept = [type(node).FromString(node.SerializeToString()) for node in ordered_nodes(model.graph)]
    del model.graph.node[:]
    model.graph.node.extend(kept)


class _Graph:
    """Index the nodes of a graph by their outputs, and its constants."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._maker = {name: node for node in graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}

    def made_by(self, kind: str, name: str) -> NodeProto | None:
        """Return the node that makes a value, if it has this operator."""
        node = self._maker.get(name)
        return node if node is not None and node.op_type == kind else None

    def readers(self, name: str) -> list[NodeProto]:
        """Return the nodes that read a value."""
        return [node for node in self._graph.node if name in node.input]

    def axis_of(self, node: NodeProto | None, rank: int) -> int | None:
        """Return the axis of a Squeeze or Unsqueeze in its `rank`; None if there are several, or it is unknown."""
        axes = self.constant(node.input[1]) if node is not None and len(node.input) > 1 else None
        return int(axes.ravel()[0]) % rank if axes is not None and axes.size == 1 else None

    def become(self, node: NodeProto, kind: str, source: str, axis: int) -> None:
        """Turn a node into a Squeeze or an Unsqueeze of `source`."""
        node.op_type = kind
        del node.attribute[:], node.input[:]
        node.input.extend([source, self._axes(axis)])

    def add(self, kind: str, sources: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output."""
        import onnx

        node = onnx.helper.make_node(kind, sources, [name], name=name, **attributes)
        self._graph.node.append(node)
        self._maker[name] = self._graph.node[-1]
        return name

    def squeezed(self, kernel: str, axis: int) -> str:
        """Return a kernel without an axis."""
        name = f"{kernel}/without_{axis}"
        return name if name in self._maker else self.add("Squeeze", [kernel, self._axes(axis)], name)

    def insert(self, source: str, axis: int, name: str) -> None:
        """Add an Unsqueeze that makes the value `name`."""
        self.add("Unsqueeze", [source, self._axes(axis)], name)

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the numbers of a constant, or None."""
        import onnx

        return onnx.numpy_helper.to_array(self._constants[name]) if name in self._constants else None

    def _axes(self, axis: int) -> str:
        import numpy as np
        import onnx

        name = f"singletons/axis_{axis}"
        if name not in self._constants:
            self._graph.initializer.append(onnx.numpy_helper.from_array(np.array([axis], np.int64), name))
            self._constants[name] = self._graph.initializer[-1]
        return name


def _integers(node: NodeProto, name: str) -> list[int]:
    """Return an integer-list attribute of a node; empty if it has none of this name."""
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == name), [])


def _insert_elsewhere(graph: _Graph, node: NodeProto) -> None:
    """Insert an axis where a Transpose puts it; the Transpose stays, for the other axes, if these move too."""
    unsqueeze, permutation = graph.made_by("Unsqueeze", node.input[0]), _integers(node, "perm")
    axis = graph.axis_of(unsqueeze, len(permutation)) if permutation else None
    if unsqueeze is None or axis is None:
        return
    others, source, new_axis = _without(permutation, axis), unsqueeze.input[0], permutation.index(axis)
    # The other axes move as well, so a Transpose remains, but it is one of three axes now.
    if others != sorted(others):
        source = graph.add("Transpose", [source], f"{node.output[0]}/moved", perm=others)
    graph.become(node, "Unsqueeze", source, new_axis)


def _shapes(model: ModelProto) -> dict[str, Sizes]:
    """Return the shapes of values by name, as far as they follow from the graph; free sizes are None."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    declared = [v for v in (*graph.value_info, *graph.input) if v.type.tensor_type.HasField("shape")]
    return {v.name: [dim.dim_value or None for dim in v.type.tensor_type.shape.dim] for v in declared}


def _insert_as_reshaped(graph: _Graph, node: NodeProto, shapes: Mapping[str, Sizes]) -> None:
    """Insert an axis where a Reshape puts it: tf2onnx may turn a Transpose that moves no other axis into one."""
    unsqueeze, wanted = graph.made_by("Unsqueeze", node.input[0]), graph.constant(node.input[1])
    source = unsqueeze.input[0] if unsqueeze is not None else ""
    sizes = shapes.get(source)
    if wanted is None or sizes is None or len(wanted) != len(sizes) + 1:
        return
    for axis, size in enumerate(wanted):
        others = [length for spot, length in enumerate(wanted.tolist()) if spot != axis]
        # The batch must stay first. Where several axes have size 1, the first place that explains the shape is as good
        # as any.
        if size == 1 and axis > 0 and others[0] in (-1, sizes[0]) and others[1:] == sizes[1:]:
            graph.become(node, "Unsqueeze", source, axis)
            return


def _drop_elsewhere(graph: _Graph, node: NodeProto) -> None:
    """Drop an axis before a Transpose that moves nothing else."""
    transpose = graph.made_by("Transpose", node.input[0])
    permutation = _integers(transpose, "perm") if transpose is not None else []
    axis = graph.axis_of(node, len(permutation)) if permutation else None
    if transpose is None or axis is None:
        return
    before = permutation[axis]
    others = _without(permutation, before)
    if others == sorted(others):
        graph.become(node, "Squeeze", transpose.input[0], before)


def _without(permutation: Sequence[int], axis: int) -> list[int]:
    """Return a permutation of the axes that remain without one of them."""
    return [other - (other > axis) for other in permutation if other != axis]


def _reduce(graph: _Graph, node: NodeProto) -> None:
    """Reduce a 2-D convolution or pooling to 1-D if it does nothing along an axis just inserted.

    The axis is inserted after it instead, or not at all if it was dropped there.
    """
    unsqueeze = graph.made_by("Unsqueeze", node.input[0])
    axis = graph.axis_of(unsqueeze, RANK)
    # MaxPool can give indices as a second output, and these count in two dimensions.
    if unsqueeze is None or axis not in (2, 3) or len(node.output) > 1 or not _does_nothing(node, axis - 2):
        return
    for attribute in node.attribute:
        if attribute.name in NOTHING:
            kept = [value for index, value in enumerate(attribute.ints) if index % 2 != axis - 2]
            del attribute.ints[:]
            attribute.ints.extend(kept)
    node.input[0] = unsqueeze.input[0]
    if node.op_type in WITH_KERNEL:
        node.input[1] = graph.squeezed(node.input[1], axis)
    wide, narrow = node.output[0], f"{node.output[0]}/narrow"
    for reader in graph.readers(wide):
        if reader.op_type == "Squeeze" and graph.axis_of(reader, RANK) == axis:
            # Not removed: another node or the graph's output may read it by name. ONNX Runtime drops identities when it
            # folds.
            reader.op_type = "Identity"
            del reader.input[:]
            reader.input.append(narrow)
    node.output[0] = narrow
    graph.insert(narrow, axis, wide)


def _does_nothing(node: NodeProto, dimension: int) -> bool:
    """Return whether a 2-D window has size 1 in this dimension, with all its settings explicit."""
    settings = {attribute.name: attribute for attribute in node.attribute}
    if "kernel_shape" not in settings or len(settings["kernel_shape"].ints) != RANK - 2:
        return False
    if "auto_pad" in settings and settings["auto_pad"].s not in (b"NOTSET", b"VALID"):
        return False
    if "output_shape" in settings:
        return False
    return all(
        value in (None, number)
        for name, number in NOTHING.items()
        if name in settings and number is not None
        for spot, value in enumerate(settings[name].ints)
        if spot % 2 == dimension
    )
