"""Convert TensorFlow's image resizing to ONNX, by sizes.

tf2onnx writes the quotient of two sizes as a float: 13/9 times 9 is less than 13 if rounded down, as the standard says.
It has no antialiasing, turns averages over areas into nearest neighbors, and uses a coordinate mode for nearest
neighbors that the standard no longer has. What Resize can't express exactly is written out: as a choice of rows and
columns, or a product with one matrix for each of the two axes. Both come from TensorFlow's own operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from stages.keras.tensorflow import import_tensorflow

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tf2onnx.graph import Graph as Tf2onnxGraph
    from tf2onnx.graph import Node as Tf2onnxNode

Handler = Callable[[Any, Any, str, Any], None]
# Fractions, since a float could not say how far a coordinate is from a tie that it may lie on.
CLEAR = Fraction(1, 1000)  # of a pixel from the rounding threshold: single precision is more exact for 10,000 pixels
SPATIAL = (1, 2)  # axes of height and width
AXES_FIRST = (2, 3)  # the same with channels first
SIZED_WHILE_RUNNING = ("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic")
OPERATORS = (*SIZED_WHILE_RUNNING, "ResizeArea", "ScaleAndTranslate")


def resize_handlers() -> dict[str, tuple[Handler, list[Any]]]:
    """Return handlers for tf2onnx's `custom_op_handlers`, by TensorFlow's operator."""
    return {operator: (_resize, []) for operator in OPERATORS}


def _resize(graph: Tf2onnxGraph, node: Tf2onnxNode, _name: str, _args: Sequence[object]) -> None:
    from tf2onnx.onnx_opset.nn import Resize

    sizes = _sizes(graph, node)
    if sizes is None and node.type in SIZED_WHILE_RUNNING:
        Resize.version_11(graph, node)  # computes sizes at run time
        _to_the_standard(graph.get_node_by_name(node.name).inputs[0])
    elif sizes is None:
        raise ValueError(f"{node.type} of sizes that are not known")  # tf2onnx then counts it as unsupported
    elif node.type == "ResizeBilinear":
        _by_resize(graph, node, sizes[1], "linear")
    elif node.type != "ResizeNearestNeighbor":
        _by_matrices(graph, node, sizes)
    elif all(_is_clear(node, before, after) for before, after in zip(*sizes, strict=True)):
        _by_resize(graph, node, sizes[1], "nearest")
    else:
        _by_choice(graph, node, sizes)


def _sizes(graph: Tf2onnxGraph, node: Tf2onnxNode) -> tuple[list[int], list[int]] | None:
    """Return height and width before and after, or None if they, or other inputs of the operator, are not constants."""
    shape = graph.get_shape(node.input[0])
    if shape is None or -1 in [shape[axis] for axis in SPATIAL] or not node.inputs[1].is_const():
        return None
    sizes = [shape[axis] for axis in SPATIAL], [int(size) for size in node.inputs[1].get_tensor_value()]
    return sizes if node.type != "ScaleAndTranslate" or _transformation(node, sizes) else None


def _transformation(node: Tf2onnxNode, sizes: tuple[list[int], list[int]]) -> tuple[list[float], list[float]] | None:
    """Return ScaleAndTranslate's scale and translation for height and width, if known."""
    scale, shift = node.inputs[2:4]
    if not shift.is_const():
        return None
    if scale.is_const():
        return list(scale.get_tensor_value()), list(shift.get_tensor_value())
    # As in tf.image.resize: the new sizes over the image's actual sizes, its batch being free.
    if scale.type != "Div" or not scale.inputs[0].is_const() or list(scale.inputs[0].get_tensor_value()) != sizes[1]:
        return None
    before = scale.inputs[1]
    # What `tf.image.resize` puts between an image's shape and the division.
    while before.type in ("Cast", "Slice", "StridedSlice"):
        before = before.inputs[0]
    if before.type != "Shape" or before.input[0] != node.input[0]:
        return None
    return [after / old for old, after in zip(*sizes, strict=True)], list(shift.get_tensor_value())


def _flag(node: Tf2onnxNode, name: str) -> bool:
    return bool(node.get_attr_int(name)) if name in node.attr else False


def _coordinates(node: Tf2onnxNode) -> tuple[str, str]:
    """Return the standard's modes for coordinates and for rounding them."""
    if _flag(node, "half_pixel_centers"):
        return "half_pixel", "round_prefer_ceil"  # floor(x + 0.5) of centers at x: TensorFlow's floor of their edges
    if _flag(node, "align_corners"):
        return "align_corners", "round_prefer_ceil"
    return "asymmetric", "floor"


def _to_the_standard(resize: Tf2onnxNode) -> None:
    """Give a Resize of tf2onnx standard coordinates."""
    if resize.get_attr_str("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        resize.set_attr("coordinate_transformation_mode", "half_pixel")
        resize.set_attr("nearest_mode", "round_prefer_ceil")


def _is_clear(node: Tf2onnxNode, before: int, after: int) -> bool:
    """Return whether no rounding of coordinates can change the nearest pixel that TensorFlow takes."""
    scale = Fraction(after, before)
    if scale.denominator & (scale.denominator - 1) == 0 and scale.numerator & (scale.numerator - 1) == 0:
        return True  # a power of two: nothing is rounded
    if _flag(node, "half_pixel_centers"):
        coordinates = [Fraction((2 * i + 1) * before, 2 * after) for i in range(after)]
    elif _flag(node, "align_corners"):
        coordinates = [Fraction(i * (before - 1), max(after - 1, 1)) + Fraction(1, 2) for i in range(after)]
    else:
        coordinates = [Fraction(i * before, after) for i in range(1, after)]
    # If a coordinate is a whole number except for rounding, the standard's evaluator may take its neighbor, too.
    exact = scale.denominator & (scale.denominator - 1) == 0
    return all(
        abs(value - round(value)) > CLEAR
        for coordinate in coordinates
        for value in (coordinate, coordinate if exact else 2 * coordinate)
    )


def _by_resize(graph: Tf2onnxGraph, node: Tf2onnxNode, after: Sequence[int], mode: str) -> None:
    """Resize by sizes, or by scales if these are exact."""
    import numpy as np

    coordinates, nearest = _coordinates(node)
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    shape = graph.get_shape(node.input[0])
    scales = [np.float32(new / shape[axis]) for axis, new in zip(SPATIAL, after, strict=True)]
    exact = all(
        Fraction(float(scale)) * shape[axis] == new for scale, axis, new in zip(scales, SPATIAL, after, strict=True)
    )

    def resized(image: str) -> str:
        # By scales where that is exact, because with sizes a free batch has to be read and joined while running. How a
        # runtime rounds a scale times a size is not agreed on (https://github.com/onnx/onnx/issues/4919).
        if exact:
            wanted = [image, "", _constant(graph, np.array([1, 1, *scales], np.float32))]
        else:
            wanted = [image, "", "", _target(graph, image, shape, after)]
        return str(graph.make_node("Resize", wanted, attr=attributes).output[0])

    _channels_first(graph, node, resized)


def _target(graph: Tf2onnxGraph, image: str, shape: Sequence[int], after: Sequence[int]) -> str:
    """Return the sizes of all four axes; free ones are read at run time."""
    import numpy as np
    from tf2onnx.graph_builder import GraphBuilder

    new = np.array(after, np.int64)
    if shape[0] != -1 and shape[3] != -1:
        return _constant(graph, np.array([shape[0], shape[3], *new], np.int64))
    image_shape = graph.make_node("Shape", [image]).output[0]
    kept = GraphBuilder(graph).make_slice({"data": image_shape, "starts": [0], "ends": [2], "axes": [0]})
    return str(graph.make_node("Concat", [kept, _constant(graph, new)], attr={"axis": 0}).output[0])


def _by_choice(graph: Tf2onnxGraph, node: Tf2onnxNode, sizes: tuple[list[int], list[int]]) -> None:
    """Gather the rows and the columns that TensorFlow takes."""
    import numpy as np

    def chosen(image: str) -> str:
        for dimension, axis in enumerate(AXES_FIRST):
            line = np.arange(sizes[0][dimension], dtype=np.float32)[:, None]
            picked = _constant(graph, _along(node, sizes, dimension, line)[:, 0].astype(np.int64))
            image = graph.make_node("Gather", [image, picked], attr={"axis": axis}).output[0]
        return image

    _channels_first(graph, node, chosen)


def _by_matrices(graph: Tf2onnxGraph, node: Tf2onnxNode, sizes: tuple[list[int], list[int]]) -> None:
    """Multiply by a matrix from the left for the height and by one from the right for the width."""
    import numpy as np

    # An image's axes are resized independently, so that the operator applied to an identity matrix gives the whole
    # linear map.
    rows, columns = (
        _along(node, sizes, dimension, np.eye(before, dtype=np.float32)) for dimension, before in enumerate(sizes[0])
    )

    def multiplied(image: str) -> str:
        left, right = _constant(graph, rows), _constant(graph, np.ascontiguousarray(columns.T))
        tall = graph.make_node("MatMul", [left, image]).output[0]
        return str(graph.make_node("MatMul", [tall, right]).output[0])

    _channels_first(graph, node, multiplied)


def _along(node: Tf2onnxNode, sizes: tuple[list[int], list[int]], dimension: int, lines: NDArray[Any]) -> NDArray[Any]:
    """Return what TensorFlow's operator makes of `lines` (old size, n), resized along the first axis: (new size, n).

    `dimension` is 0 if that is the height and 1 if it is the width.
    """
    import numpy as np

    tf = import_tensorflow()
    settings: dict[str, Any]
    transformation = _transformation(node, sizes) if node.type == "ScaleAndTranslate" else None
    if transformation is not None:
        scale, shift = (float(values[dimension]) for values in transformation)
        settings = {"scale": [scale, 1.0], "translation": [shift, 0.0]}
        settings |= {"kernel_type": node.get_attr_str("kernel_type"), "antialias": _flag(node, "antialias")}
    else:
        settings = {"align_corners": _flag(node, "align_corners")}
        if node.type != "ResizeArea":
            settings["half_pixel_centers"] = _flag(node, "half_pixel_centers")
    # In a graph and session of its own: tf2onnx is inside of another graph here, where nothing computes.
    with tf.Graph().as_default() as own, tf.compat.v1.Session(graph=own) as session:
        image = tf.constant(lines[None, :, None, :])
        resized = getattr(tf.raw_ops, node.type)(images=image, size=[sizes[1][dimension], 1], **settings)
        return np.asarray(session.run(resized))[0, :, 0, :]


def _channels_first(graph: Tf2onnxGraph, node: Tf2onnxNode, body: Callable[[str], str]) -> None:
    """Replace `node` with `body`, which makes nodes for an image with its channels first, between transposes."""
    from onnx import TensorProto

    image, shapes, kinds = node.input[0], node.output_shapes, node.output_dtypes
    # TensorFlow's operators take whole numbers and give floats; Resize gives the type that it takes.
    if graph.get_dtype(image) != kinds[0]:  # all but nearest neighbors are floating-point numbers
        image = graph.make_node("Cast", [image], attr={"to": TensorProto.FLOAT}).output[0]
    first = graph.make_node("Transpose", [image], attr={"perm": [0, 3, 1, 2]}).output[0]
    # Kept, and given to the last node: the graph's outputs are found by their names.
    outputs = node.output
    graph.remove_node(node.name)
    last = body(first)
    graph.make_node(
        "Transpose", [last], attr={"perm": [0, 2, 3, 1]}, name=node.name, outputs=outputs, shapes=shapes, dtypes=kinds
    )


def _constant(graph: Tf2onnxGraph, values: NDArray[Any]) -> str:
    from tf2onnx import utils

    return str(graph.make_const(utils.make_name("resize"), values).output[0])
