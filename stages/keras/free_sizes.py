"""Choose the sizes that a model leaves open, wherever the model is counted, or run on synthetic inputs.

`settle` decides when a model is loaded: the user's sizes, else the size of the data's samples, else the first of a list
at which the network runs. Many networks run at any; those with unpadded layers need a minimum, those that halve and
double need multiples. From then on the sizes belong to the model, and are stored in its file; code that derives a model
from another copies them (`like`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from pipeline.errors import ModelError, reason_of
from pipeline.recipe.errors import nearest
from pipeline.recipe.model_spec import FreeSizes
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel

SIZES = (96, 128, 64, 160, 192, 224, 256, 32, 320, 384, 448, 512, 640, 16, 8, 100, 150, 200, 300, 400, 500, 600)
# tf_keras puts this before the message of the layer that failed (`utils/traceback_utils.py`).
IN_LAYER = re.compile(r"Exception encountered when calling layer (?P<layer>'[^']+' \(type \w+\))\.\s*(?P<what>.+)")
Shape = tuple[int, ...]
Open = Mapping[str, tuple[int | None, ...]]  # inputs that leave sizes open, by name, without the batch
# Not attributes of the models: Keras wraps and tracks whatever is set on one. Weak, so that no model is kept by it.
_settled: WeakKeyDictionary[Any, dict[str, Shape]] = WeakKeyDictionary()
_found: WeakKeyDictionary[Any, dict[str, Shape]] = WeakKeyDictionary()  # by trying: inspecting a model settles nothing


@dataclass(frozen=True, slots=True)
class Wanted:
    """Hold sizes from outside the model: by `setting` (its name in errors), and by the data.

    `samples` are shapes of the data's samples by input name ("" if they have none), the usual one first.
    """

    sizes: FreeSizes | None = None
    samples: tuple[Mapping[str, Shape], ...] = ()
    setting: str = "model.sizes"


NOTHING = Wanted()
DATA = "data"


def leaves_sizes_open(model: KerasModel) -> bool:
    """Return whether any of a model's inputs has a free size besides the batch."""
    return any(size is None for tensor in model.inputs for size in tensor.shape[1:])


def shapes_of(model: KerasModel) -> dict[str, Shape]:
    """Return the shapes, without the batch, assumed for the inputs of `model` that leave sizes open, by name.

    Raises:
        ModelError: none were given, and it runs at none of SIZES.
    """
    if not leaves_sizes_open(model):
        return {}
    if model in _settled:
        return _settled[model]
    if model not in _found:
        _found[model] = _first_of_list(model)
    return _found[model]


def inputs_at(model: KerasModel, batch: int) -> list[Shape]:
    """Return the shapes of all inputs of `model`, in its order, for a run on synthetic inputs."""
    return _whole(model, shapes_of(model), batch)


def _whole(model: KerasModel, shapes: Mapping[str, Shape], batch: int) -> list[Shape]:
    """Return the shapes of all inputs, in the model's order, with `shapes` for open ones."""
    named = zip(model.inputs, model.input_names, strict=True)
    return [(tensor.shape[0] or batch, *shapes.get(name, tuple(tensor.shape[1:]))) for tensor, name in named]


def settle(model: KerasModel, wanted: Wanted = NOTHING) -> None:
    """Set the sizes of `model` to those that are wanted, if it leaves any open.

    Raises:
        ModelError: the sizes are not the model's, the data has others, or the network can't run at them.
    """
    shapes = told(model, wanted)
    if shapes is None:
        if leaves_sizes_open(model):
            _settled[model] = shapes_of(model)
    elif wanted.sizes is not None:
        _settled[model] = _running(model, shapes, wanted.setting, "name sizes at which it does")
    else:
        _settled[model] = _running(model, shapes, DATA, "bring the data to a size at which it does")


def candidates(model: KerasModel, wanted: Wanted) -> list[dict[str, Shape]]:
    """Return shapes of the open inputs of a model of either Keras, to try in turn: the given ones, or the list."""
    shapes, left_open = told(model, wanted), _open(model)
    if shapes is not None or not left_open:
        return [shapes or {}]
    return [{name: filled(shape, size) for name, shape in left_open.items()} for size in SIZES]


def told(model: KerasModel, wanted: Wanted) -> dict[str, Shape] | None:
    """Return the wanted shapes of the open inputs of a model of either Keras; None if none were given.

    Raises:
        ModelError: they are not the model's, or the data has others.
    """
    left_open = _open(model)
    of_data = [shapes for sample in wanted.samples if (shapes := _of_samples(left_open, sample)) is not None]
    if wanted.sizes is None:
        return of_data[0] if left_open and of_data else None
    if not left_open:
        hint = f"take {wanted.setting} out"
        raise ModelError("no input of the model leaves a size open", where=wanted.setting, hint=hint)
    _require_known(wanted, left_open)
    chosen = {name: _said(name, shape, wanted) for name, shape in left_open.items()}
    if of_data and chosen not in of_data:
        what = f"{wanted.setting} says {_shown(chosen)}, and samples of the data are {_shown(of_data[0])}"
        raise ModelError(what, where=wanted.setting, hint="take it out: the data's size is then taken")
    return chosen


def put_shapes(model: KerasModel, shapes: Mapping[str, Sequence[int]]) -> None:
    """Set shapes of `model` that were settled before, as far as it has such inputs."""
    left_open = _open(model)
    fitting = {name: tuple(shapes[name]) for name in left_open if name in shapes}
    if left_open and fitting.keys() == left_open.keys() and all(_fits(left_open[n], fitting[n]) for n in fitting):
        _settled[model] = fitting


def settled(model: KerasModel) -> bool:
    """Return whether the sizes of `model` are settled."""
    return model in _settled


def like(fresh: Any, model: KerasModel) -> Any:
    """Return `fresh`, which was derived from `model`, with the same sizes."""
    if model in _settled:
        put_shapes(fresh, _settled[model])
    return fresh


def _open(model: KerasModel) -> dict[str, tuple[int | None, ...]]:
    names = getattr(model, "input_names", None) or [tensor.name for tensor in model.inputs]
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in zip(names, model.inputs, strict=True)}
    return {name: shape for name, shape in shapes.items() if None in shape}


def _said(name: str, shape: Sequence[int | None], wanted: Wanted) -> Shape:
    """Return the shape of an input with the user's sizes in the open places."""
    sizes, count = wanted.sizes, sum(size is None for size in shape)
    if isinstance(sizes, dict):
        if name not in sizes:
            what = f"{wanted.setting} says nothing of input {_shown({name: shape})}"
            raise ModelError(what, where=wanted.setting, hint=f"it has {', '.join(sizes)}")
        sizes = sizes[name]
    numbers = (sizes,) * count if isinstance(sizes, int) else tuple(sizes or ())
    if len(numbers) != count:
        what = f"{wanted.setting} gives {len(numbers)} sizes, and input {_shown({name: shape})} leaves {count} open"
        raise ModelError(what, where=wanted.setting, hint="one number stands for all of them")
    remaining = iter(numbers)
    return tuple(next(remaining) if size is None else size for size in shape)


def _require_known(wanted: Wanted, left_open: Open) -> None:
    for name in wanted.sizes if isinstance(wanted.sizes, dict) else ():
        if name not in left_open:
            what = f"{wanted.setting} names {name!r}, no input that leaves sizes open"
            raise ModelError(what, where=wanted.setting, hint=nearest(name, list(left_open)))


def _of_samples(left_open: Open, samples: Mapping[str, Shape]) -> dict[str, Shape] | None:
    """Return the data's shapes, if samples fit the model; other code reports it if they don't."""
    if "" in samples and len(left_open) == 1:
        samples = dict.fromkeys(left_open, samples[""])
    shapes = {name: tuple(samples[name]) for name in left_open if name in samples}
    fits = shapes.keys() == left_open.keys() and all(_fits(left_open[name], shapes[name]) for name in shapes)
    return shapes if fits else None


def _fits(shape: Sequence[int | None], sizes: Sequence[int]) -> bool:
    return len(shape) == len(sizes) and all(size in (None, actual) for size, actual in zip(shape, sizes, strict=True))


def _running(model: KerasModel, shapes: dict[str, Shape], where: str, advice: str) -> dict[str, Shape]:
    """Return `shapes`, if the model runs at them; else ModelError, with a size at which it does."""
    try:
        _outputs(model, shapes)
    except Exception as error:  # Keras raises whatever its layers raise
        what = f"the network can't run at {_shown(shapes)}: {_reason(error)}"
        try:
            hint = f"{advice}, such as {_shown(_first_of_list(model))}"
        except ModelError:
            hint = advice
        raise ModelError(what, where=where, hint=hint) from error
    return shapes


def _reason(error: Exception) -> str:
    """Return what went wrong, without the framework's own names for it: the layer first, if Keras names it."""
    message = reason_of(error).partition(" for '{{node")[0]
    named = IN_LAYER.match(message)
    return f"in layer {named['layer']}, {named['what']}" if named else message


def _shown(shapes: Mapping[str, Sequence[int | None]]) -> str:
    def sizes(shape: Sequence[int | None]) -> str:
        return "×".join("?" if size is None else str(size) for size in shape)

    return ", ".join(f"{name} {sizes(shape)}".strip() for name, shape in shapes.items())


def _first_of_list(model: KerasModel) -> dict[str, Shape]:
    """Return one size for all open ones: the first of SIZES at which the model runs, preferably to finite outputs."""
    left_open = _open(model)
    message, runs = "", None
    for size in SIZES:
        shapes = {name: filled(shape, size) for name, shape in left_open.items()}
        try:
            outputs = _outputs(model, shapes)
        except Exception as error:  # noqa: BLE001 - Keras raises whatever its layers raise
            message = message or _reason(error)
            continue
        if _says_something(outputs):
            return shapes
        runs = runs or shapes
    if runs is None:
        tried = ", ".join(map(str, sorted(SIZES)))
        what = f"the model leaves sizes of its inputs open, and runs at none of {tried}: {message}"
        raise ModelError(what, where=model.name, hint="say one at which it runs: `model: {path: …, sizes: …}`")
    return runs


def filled(shape: Sequence[int | None], size: int) -> Shape:
    """Return a shape with `size` in all open places."""
    return tuple(size if known is None else int(known) for known in shape)


def _outputs(model: KerasModel, shapes: Mapping[str, Shape]) -> list[Any]:
    """Return what the model gives on one sample of noise.

    ModelError if an intermediate tensor is empty: oneDNN's convolution returns numbers nevertheless.
    """
    import numpy as np

    full = _whole(model, shapes, 1)
    require_something_left(
        lambda tensors: model(tensors if len(tensors) > 1 else tensors[0], training=False), model, full
    )
    rng, inputs = np.random.default_rng(0), []
    for tensor, shape in zip(model.inputs, full, strict=True):
        # Zero is an index that every table has.
        drawn = rng.standard_normal(shape) if tensor.dtype.is_floating else np.zeros(shape)
        inputs.append(drawn.astype(tensor.dtype.as_numpy_dtype))
    outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    return [np.asarray(output) for output in (outputs if isinstance(outputs, list | tuple) else [outputs])]


def require_something_left(call: Callable[[list[Any]], Any], model: KerasModel, shapes: Sequence[Shape]) -> None:
    """Raise ModelError if samples of these shapes become empty inside a model of either Keras.

    `call` runs it. It is traced, and shapes are checked as far as they follow from those of the inputs.
    """
    tf = import_tensorflow()
    graph = tf.__internal__.FuncGraph("sizes")
    with graph.as_default():
        call([tf.compat.v1.placeholder(t.dtype, s) for t, s in zip(model.inputs, shapes, strict=True)])
    tensors = [out for node in graph.get_operations() if node.inputs for out in node.outputs]
    # Integer tensors may be shapes, and the shape of a scalar is rightly empty.
    known = [out.shape for out in tensors if out.dtype.is_floating and out.shape.is_fully_defined()]
    if any(not size for shape in known for size in shape):
        raise ModelError("nothing of a sample is left inside the network", where=model.name)


def _says_something(outputs: list[Any]) -> bool:
    """Return whether all outputs are finite: a mean over nothing is not."""
    import numpy as np

    return all(output.dtype.kind not in "fc" or np.isfinite(output).all() for output in outputs)
