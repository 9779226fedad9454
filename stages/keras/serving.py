"""Define how a Keras model is called in a file: one traced function and its inputs' shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import ModelError, PreconditionError
from stages.keras.types import KerasModel

MOST_BYTES = 2**31 - 1  # of a protobuf message, and of a flatbuffer
Shapes = Mapping[str, Sequence[int]]  # by input name, without the batch


def input_specs(tf: Any, model: KerasModel, batch: int | None, shapes: Shapes | None = None) -> list[Any]:
    """Return the inputs' TensorSpecs in the model's order, with `batch` and `shapes` for free sizes."""
    specs = []
    for tensor, name in zip(model.inputs, model.input_names, strict=True):
        sizes = list(tensor.shape[1:])
        wanted = (shapes or {}).get(name, sizes)
        sizes = [size or chosen for size, chosen in zip(sizes, wanted, strict=True)]
        specs.append(tf.TensorSpec([tensor.shape[0] or batch, *sizes], tensor.dtype, name=name))
    return specs


def require_fixed(specs: Sequence[Any], standing: Shapes) -> None:
    """Raise PreconditionError for a free size: formats that allocate memory in advance accept none.

    `standing` are the shapes at which the model is counted: the error proposes them.
    """
    for spec in specs:
        if None in spec.shape.as_list():
            sizes = [f"{size or '?'}" for size in spec.shape[1:]]
            example = ", ".join(map(str, standing[spec.name]))
            raise PreconditionError(
                f"TFLite takes no free sizes, and input {spec.name!r} is {'×'.join(sizes)}",
                where="export.shapes",
                hint=f"choose them, such as shapes: {{{spec.name}: [{example}]}}",
            )


def weight_bytes(model: KerasModel) -> int:
    """Return the size of a Keras model's weights in bytes."""
    return int(sum(weight.shape.num_elements() * weight.dtype.size for weight in model.weights))


def is_too_large(size: int) -> bool:
    """Return whether `size` bytes exceed one file."""
    return size > MOST_BYTES


def require_size(model: KerasModel, file: str, hint: str = "prune it first") -> None:
    """Raise ModelError if the weights exceed what a `file` holds."""
    size = weight_bytes(model)
    if is_too_large(size):
        raise ModelError(
            f"the model has weights of {size / 1e9:.1f} GB, and {file} takes less than {MOST_BYTES / 1e9:.1f} GB",
            where=model.name,
            hint=hint,
        )


def serving_function(tf: Any, model: KerasModel, specs: Sequence[Any]) -> Any:
    """Return the tf.function of inference: inputs in the model's order, outputs by name."""

    @tf.function(input_signature=specs)  # type: ignore[untyped-decorator, unused-ignore]
    def serve(*inputs: Any) -> dict[str, Any]:
        results = model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
        return dict(zip(model.output_names, results if isinstance(results, (list, tuple)) else [results], strict=True))

    return serve
