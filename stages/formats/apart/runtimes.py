"""Run exported files in their runtimes in the child: a damaged or unlucky file does not bring down this process.

Returns what `load_exported` and `file_tensors` of `stages.formats.registry` do; arrays are exchanged as `.npz` files.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.contracts.events import ActionEvents
from pipeline.records.artifacts import Kind, TensorSpec
from pipeline.records.values import Json
from stages.formats.apart.main import Speaker
from stages.formats.apart.process import call_child

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.formats.format import Arrays, FileTensor, LoadedModel

KEPT = 2  # loaded files in the child: a candidate and the one it is compared with

_tokens = itertools.count()  # one per load
_loaded: dict[int, LoadedModel] = {}  # in the child, by the parent's token


def load_apart(
    kind: Kind, model: bytes | Path, threads: int, doing: str, events: ActionEvents | None = None
) -> LoadedModel:
    """Call `load_exported` with the runtime in the child. `doing` describes the purpose, as in "verify tflite/int8".

    DeviceError if the runtime refuses the file, NativeEndError where it ends by it.
    """
    from stages.formats.format import LoadedModel

    holder, token = _Held(model), next(_tokens)

    def call(function: str, **more: Json) -> Json:
        arguments = {"token": token, "kind": kind, "model": str(holder.path), "threads": threads, **more}
        where = events.action if events else None
        return call_child(f"{__name__}:{function}", arguments, doing, where=where)

    def run(arrays: Arrays) -> dict[str, NDArray[Any]]:
        with tempfile.TemporaryDirectory(prefix="secateur-") as name:
            input_file, output_file = Path(name) / "given.npz", Path(name) / "made.npz"
            names = _save(input_file, arrays)
            return _load(output_file, call("run_here", names=names, given=str(input_file), made=str(output_file)))

    interface = call("interface_here")
    inputs, outputs = (tuple(TensorSpec.model_validate_json(spec) for spec in specs) for specs in interface)
    return LoadedModel(inputs=inputs, outputs=outputs, run=run)


def tensors_apart(
    kind: Kind, model: bytes | Path, arrays: Arrays, doing: str, events: ActionEvents | None = None
) -> list[FileTensor]:
    """Call `file_tensors` with the runtime in the child; errors as of `load_apart`."""
    from stages.formats.format import FileTensor

    holder = _Held(model)
    with tempfile.TemporaryDirectory(prefix="secateur-") as name:
        input_file, output_file = Path(name) / "given.npz", Path(name) / "made.npz"
        more = {"names": _save(input_file, arrays), "given": str(input_file), "made": str(output_file)}
        where = events.action if events else None
        arguments = {"kind": kind, "model": str(holder.path), **more}
        entries = call_child(f"{__name__}:tensors_here", arguments, doing, where=where)
        values = _load(output_file, [str(index) for index in range(len(entries))])
    return [
        FileTensor(name, values[str(index)], operator, None if ends is None else (ends[0], ends[1]))
        for index, (name, operator, ends) in enumerate(entries)
    ]


class _Held:
    """Provide a model as a file: bytes get a temporary one, for the lifetime of this object."""

    def __init__(self, model: bytes | Path) -> None:
        if isinstance(model, Path):
            self.path = model.absolute()
            return
        number, name = tempfile.mkstemp(prefix="secateur-")
        with os.fdopen(number, "wb") as file:
            file.write(model)
        self.path = Path(name)
        # `run` below keeps the holder alive as long as the model is used; the child may load the file again at any
        # call.
        weakref.finalize(self, self.path.unlink, missing_ok=True)


def _save(path: Path, arrays: Arrays) -> list[str]:
    """Write arrays in their order and return their names."""
    import numpy as np

    with path.open("wb") as file:
        # By place: `savez` takes a tensor called `file` for its own argument, and `/` in a name for a folder in the
        # archive.
        np.savez(file, *arrays.values())
    return list(arrays)


def _load(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    import numpy as np

    # A pickle in an array of objects would be code from the child's side that runs here.
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[f"arr_{index}"] for index, name in enumerate(names)}


def interface_here(_: Speaker, **opened: Json) -> list[list[str]]:
    """Return, in the child, the file's inputs and outputs."""
    loaded = _opened(**opened)
    return [[spec.model_dump_json() for spec in specs] for specs in (loaded.inputs, loaded.outputs)]


def run_here(_: Speaker, names: list[str], given: str, made: str, **opened: Json) -> list[str]:
    """Compute the file's outputs in the child, into `made`; returns their names."""
    return _save(Path(made), _opened(**opened).run(_load(Path(given), names)))


def tensors_here(
    _: Speaker, kind: str, model: str, names: list[str], given: str, made: str
) -> list[tuple[str, int, tuple[float, float] | None]]:
    """Compute the tensors of all operators in the child, into `made`; returns name, operator and ends of each."""
    from stages.formats.registry import file_tensors

    tensors = file_tensors(kind, Path(model), _load(Path(given), names))
    _save(Path(made), {str(index): tensor.values for index, tensor in enumerate(tensors)})
    return [(tensor.name, tensor.operator, tensor.ends) for tensor in tensors]


def _opened(token: int, kind: Kind, model: str, threads: int) -> LoadedModel:
    """Return a loaded file; the last ones are kept, and reloaded in a new child."""
    from stages.formats.registry import load_exported

    # A token and not the path is the key: a temporary file's name can be used again for another model.
    if token not in _loaded:
        while len(_loaded) >= KEPT:
            _loaded.pop(next(iter(_loaded)))
        _loaded[token] = load_exported(kind, Path(model), threads)
    return _loaded[token]
