"""Settle masks of sequences: Keras 3 writes each call's mask into the file, tf_keras finds them by itself.

A mask that tf_keras finds too is left to it, so that the network is the one that tf_keras itself would have written;
any other is passed on as given in the file.
"""

from __future__ import annotations

from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasLayer, KerasTensor, KerasValue


def settle_masks(
    layer: KerasLayer, args: tuple[KerasValue, ...], kwargs: dict[str, KerasValue]
) -> tuple[tuple[KerasValue, ...], dict[str, KerasValue]]:
    """Return the arguments of a tf_keras layer's call, with a mask only if it would not find the right one itself."""
    if not args or not hasattr(args[0], "_keras_history"):
        return args, kwargs
    own = getattr(args[0], "_keras_mask", None)
    wanted = kwargs.get("mask")
    if own is not None and wanted is None and getattr(layer, "_expects_mask_arg", False):
        return (import_tensorflow().identity(args[0]), *args[1:]), kwargs  # which carries no mask
    if own is not None and _same(wanted, own):
        return args, {key: value for key, value in kwargs.items() if key != "mask"}
    return args, kwargs


def note_mask(layer: KerasLayer, args: tuple[KerasValue, ...], outputs: list[KerasTensor]) -> None:
    """Attach to a layer's outputs a mask that records its origin, which tf_keras forgets."""
    if not any(getattr(tensor, "_keras_mask", None) is not None for tensor in outputs):
        return
    tf = import_tensorflow()
    if type(layer).__name__ == "Masking":
        masks: KerasTensor = tf.reduce_any(tf.not_equal(args[0], layer.mask_value), axis=-1)
    else:
        masks = layer.compute_mask(args[0], tf.nest.map_structure(lambda x: getattr(x, "_keras_mask", None), args[0]))
    for tensor, mask in zip(outputs, tf.nest.flatten(masks), strict=False):
        tensor._keras_mask = mask  # noqa: SLF001


def _same(left: KerasValue, right: KerasValue) -> bool:
    """Return whether two tensors or arguments are made by the same operations from the same tensors."""
    if left is right:
        return True
    if hasattr(left, "_keras_history") and hasattr(right, "_keras_history"):
        return _history(left) == _history(right) or _same_operation(left, right)
    if hasattr(left, "_keras_history") or hasattr(right, "_keras_history"):
        return False
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    if _is_single(left) or _is_single(right):
        return _same(*(item[0] if _is_single(item) else item for item in (left, right)))
    return bool(left == right)


def _is_single(value: KerasValue) -> bool:
    """Treat `axis=[1]` like `axis=1`."""
    return isinstance(value, list | tuple) and len(value) == 1


def _history(tensor: KerasTensor) -> tuple[int, int, int]:
    layer, node, output = tensor._keras_history  # noqa: SLF001 - Keras has no public way
    return id(layer), node, output


def _same_operation(left: KerasTensor, right: KerasTensor) -> bool:
    layers = [tensor._keras_history.layer for tensor in (left, right)]  # noqa: SLF001
    symbols = [getattr(layer, "symbol", None) for layer in layers]
    if symbols[0] is None or symbols[0] != symbols[1]:
        return False
    calls = [_call(tensor) for tensor in (left, right)]
    return bool(calls[0].keys() == calls[1].keys()) and all(_same(value, calls[1][k]) for k, value in calls[0].items())


def _call(tensor: KerasTensor) -> dict[str, KerasValue]:
    """Return the arguments of the operation that made a tensor, by name, without defaults."""
    import inspect

    layer, index, _ = tensor._keras_history  # noqa: SLF001
    node = layer.inbound_nodes[index]
    bound = inspect.signature(layer.function).bind(*node.call_args, **node.call_kwargs).arguments
    return {name: value for name, value in bound.items() if value is not None and value is not False and name != "name"}
