"""Test all public layers and operations of Keras 3: which of them does `load` translate from a saved file?

`keras.layers` and `keras.ops` are listed from the installed Keras; for each name a small network that uses it is built,
given weights unlike its initial ones, and saved by Keras 3. There are four outcomes:

- *equal*: `load_model` takes the file, and its normal form, read back, computes what Keras 3 computes (5e-5 of the
  output's scale; NaN and infinity must be so on both sides);
- *refused*, with the reason; *wrong*: loaded, and the numbers differ (or a failure without a reason of ours);
- *no graph*: it makes no sense in a stored graph of layers: Keras 3 itself can't build, save or read it back (its words
  are shown), or what it is says so (`NO_GRAPH`).

Exit status 1 unless nothing is wrong, and of what makes sense 95 % of the layers and 85 % of the operations are equal.

    python benchmarks/keras3_coverage.py [--only PATTERN] [--all]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from keras3_calls import OPERATIONS
from keras3_networks import CREATED, INPUTS, LAYERS, NO_GRAPH

TOLERANCE = 5e-5
WANTED = {"layers": 0.95, "ops": 0.85}


class Result(NamedTuple):
    """Hold the result for one name."""

    end: str
    why: str


def names(keras: Any) -> Iterator[tuple[str, str]]:
    """Yield the public layers and operations: (`layers` or `ops`, name)."""
    for name in sorted(dir(keras.layers)):
        if isinstance(getattr(keras.layers, name), type):
            yield "layers", name
    for name in sorted(dir(keras.ops)):
        if callable(getattr(keras.ops, name)) and not name.startswith("_"):
            yield "ops", name


def network(keras: Any, room: str, name: str) -> tuple[Any, list[Any]]:
    """Return a small model that uses the layer or operation, and inputs for it."""
    if room == "layers":
        kind, make = LAYERS.get(name, ("image", lambda layers, x: getattr(layers, name)()(x)))
    elif name in CREATED:
        created = CREATED[name]
        kind, make = "float", lambda ops, x: ops.add(x, ops.cast(created(ops), "float32"))
    else:
        kind, make = OPERATIONS.get(name, ("float", lambda ops, x: getattr(ops, name)(x)))
    arrays = [INPUTS[one]() for one in kind.split()]
    types = ["string" if array.dtype.kind == "U" else str(array.dtype) for array in arrays]
    inputs = [keras.Input(array.shape[1:], dtype=kind) for array, kind in zip(arrays, types, strict=True)]
    made = make(getattr(keras, room), *inputs)
    outputs = [one for one in keras.tree.flatten(made) if one is not None]
    return keras.Model(inputs, outputs), arrays


def shake(model: Any) -> None:
    """Set weights that differ from what initializers make."""
    import numpy as np

    rng = np.random.default_rng(3)
    for weight in model.weights:
        if "float" in str(weight.dtype) and "seed" not in weight.path:
            value = np.asarray(weight)
            weight.assign(value + np.abs(rng.normal(0.1, 0.1, value.shape)))


def outputs(model: Any, arrays: Sequence[Any]) -> list[Any]:
    import numpy as np
    import tensorflow as tf

    arrays = [tf.constant(array) if np.asarray(array).dtype.kind == "U" else array for array in arrays]
    given = arrays if len(arrays) > 1 else arrays[0]
    made = model(given, training=False) if hasattr(model, "layers") else model(given)
    return [np.asarray(one) for one in (made if isinstance(made, list | tuple) else [made])]


def difference(wanted: Sequence[Any], got: Sequence[Any]) -> float:
    """Return the largest difference relative to the output's scale; infinite if shapes or nonfinite values differ."""
    import numpy as np

    worst = 0.0
    for one, other in zip(wanted, got, strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            return float("inf")
        a, b = (np.asarray(v, "complex128" if v.dtype.kind == "c" else "float64").ravel() for v in (one, other))
        real = np.isfinite(a)
        if not np.array_equal(real, np.isfinite(b)) or not np.array_equal(a[~real], b[~real], equal_nan=True):
            return float("inf")
        if real.any():
            worst = max(worst, float(np.abs(a - b)[real].max() / max(np.abs(a[real]).max(), 1e-6)))
    return worst


def tried(keras: Any, room: str, name: str) -> Result:
    """Build, save and load; see the module's docstring."""
    if f"{room}.{name}" in NO_GRAPH:
        return Result("no graph", NO_GRAPH[f"{room}.{name}"])
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        path = Path(folder) / "m.keras"
        try:
            model, arrays = network(keras, room, name)
            shake(model)
            wanted = outputs(model, arrays)
            model.save(path)
            again = difference(wanted, outputs(keras.models.load_model(path, compile=False), arrays))
        except Exception as error:  # noqa: BLE001 - whatever Keras 3 says about its own file
            return Result("no graph", f"Keras 3 itself: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        if not again <= TOLERANCE:
            return Result("no graph", f"Keras 3's own file computes otherwise when it reads it: {again:.0e}")
        return loaded(path, wanted, model, arrays)


def loaded(path: Path, wanted: Sequence[Any], model: Any, arrays: Sequence[Any]) -> Result:
    from pipeline.errors import SecateurError
    from stages.keras.normal_form import decode_model, encode_model
    from stages.load import load_model

    try:
        found = load_model(path)
        for kept in found.preprocessing:  # text becomes numbers outside of what is loaded
            arrays = outputs(model.get_layer(kept["layer"]), arrays)
        path.write_bytes(encode_model(found.model))
        off = difference(wanted, outputs(decode_model(path), arrays))
    except SecateurError as error:
        end = "wrong" if "differ from the original's" in error.what else "refused"
        return Result(end, " ".join(error.what.split())[-300:])
    except Exception as error:  # noqa: BLE001 - the table has room for every failure
        return Result("wrong", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return Result("equal", f"{off:.0e}") if off <= TOLERANCE else Result("wrong", f"off by {off:.1e}")


def table(found: dict[tuple[str, str], Result], every: bool) -> bool:
    """Print whatever is not equal, line by line, then the sums; return whether these suffice."""
    for (room, name), result in found.items():
        if every or result.end != "equal":
            print(f"{room + '.' + name:<46}{result.end:<9} {result.why}")
    enough = True
    for room, wanted in WANTED.items():
        ends = Counter(result.end for (one, _), result in found.items() if one == room)
        sense = sum(ends.values()) - ends["no graph"]
        if sense:
            share = ends["equal"] / sense
            enough &= share >= wanted and not ends["wrong"]
            said = ", ".join(f"{ends[end]} {end}" for end in ("equal", "refused", "wrong", "no graph"))
            print(f"{room}: {sum(ends.values())}: {said}; of {sense} that make sense {share:.1%} load equal")
    return enough


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="names such as layers.Random* or ops.c*")
    parser.add_argument("--all", action="store_true", help="show what is equal, too")
    options = parser.parse_args()
    from pipeline.system.quiet import quiet
    from stages.load.keras3 import import_keras3

    keras, found = import_keras3(), {}
    for room, name in names(keras):
        if fnmatchcase(f"{room}.{name}", options.only):
            with quiet():
                found[room, name] = tried(keras, room, name)
    return 0 if table(found, options.all) else 1


if __name__ == "__main__":
    raise SystemExit(main())
