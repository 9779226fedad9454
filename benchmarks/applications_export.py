"""Export every network of tf_keras.applications to TFLite and ONNX: do both match Keras, and does int8 convert?

Random weights, randomized statistics, at the smallest input that each takes; up to the closing softmax's input. Each
network runs in a separate process. `tflite`, `onnx` and `between` are the largest differences, relative to the largest
output, of the float32 files from Keras and from each other; then nodes and Transposes of the ONNX graph, seconds of
both conversions, and whether int8 converts and runs in both formats. Results are kept: a killed run resumes.

Random weights make some networks so sensitive that float32 itself says little: if a file is beyond 1e-4, Keras is
compared with its own float64, and files may be off by twice that. If that is above 1 %, it tells nothing, and the same
network is measured with less of the scales of its batch normalizations, so that signals do not grow from block to
block, by steps of 10 % until Keras itself is exact enough. How far its outputs move from one input to another is
printed too: it must be ten times the files' error.

Exit status 1 unless all float32 files agree so, and all int8 files are made, or have a reason in the table.

    python benchmarks/applications_export.py [--work DIR] [--only PATTERN]
"""

from __future__ import annotations

import argparse
import json
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from applications import shake, smallest
from fresh import ROOT, in_fresh_process
from resumable import DEFAULT_WORK, Results

from pipeline.records.schemes import Scheme

NEAR, CALIBRATION = 1e-4, 4
TELLING = 1e-2  # Keras' own rounding above which outputs can't be compared
CALMER = 0.9  # of each scale, step by step
FORMATS = ("tflite", "onnx")
FLOAT = ("tflite/float32", "onnx/float32", "between")


def measure(name: str) -> dict[str, Any]:
    """Measure one network in this process; failures are in `reasons`, by format and scheme."""
    from stages.keras.normal_form import random_inputs
    from stages.keras.tensorflow import import_keras

    import_keras().utils.set_random_seed(1)
    model, size = smallest(name)
    shake(model)
    samples = random_inputs(model, samples=CALIBRATION, seed=0)
    found = {"size": size, "params": model.count_params(), **files_of(model, samples, ("float32", "int8"))}
    if found.get("rounding", 0.0) > TELLING:
        found["calm"] = calmed(model, samples)
    return found


def calmed(model: Any, samples: list[Any]) -> dict[str, Any]:
    """Return what `files_of` finds in float32 when signals no longer grow; the scales change in place."""
    scale = calm(model, samples, NEAR / 2, CALMER)
    return {**files_of(model, samples, ("float32",)), "moves": moves(model, samples), "scale": scale}


def calm(model: Any, samples: list[Any], rounding: float, step: float) -> float:
    """Multiply the scales of batch normalizations by `step` until Keras itself is exact to `rounding`.

    Return what is left of each scale.
    """
    from stages.keras.closing import before_squashing
    from stages.recalibrate.statistics import batch_normalizations

    scale = 1.0
    with before_squashing(model) as open_ended:
        double = in_float64(open_ended)  # once: deep networks take minutes to build
        while rounding_of(open_ended, double, samples) > rounding:
            scale *= step
            for norm in batch_normalizations(model):
                if norm.scale:
                    norm.gamma.assign(norm.gamma * step)
                else:  # as in InceptionV3: the variance that it divides by does the same
                    norm.moving_variance.assign(norm.moving_variance / step**2)
    return scale


def moves(model: Any, samples: list[Any]) -> float:
    """Return how far the outputs of other inputs are from those of `samples`."""
    import numpy as np

    from stages.keras.closing import before_squashing
    from stages.keras.normal_form import random_inputs, relative_difference

    with before_squashing(model) as open_ended:
        others = random_inputs(model, samples=CALIBRATION, seed=1)
        return relative_difference(*(np.asarray(open_ended(given, training=False)) for given in (samples, others)))


def files_of(model: Any, samples: list[Any], schemes: tuple[Scheme, ...]) -> dict[str, Any]:
    """Compare what the files of one network compute, up to its closing softmax, with Keras; failures are in
    `reasons`.
    """
    import numpy as np

    from pipeline.errors import SecateurError
    from stages.formats.onnx.convert import convert_onnx
    from stages.formats.registry import load_exported
    from stages.formats.tflite.convert import convert_tflite
    from stages.keras.closing import before_squashing
    from stages.keras.normal_form import relative_difference

    found: dict[str, Any] = {"reasons": {}}
    with before_squashing(model) as open_ended:
        expected = np.asarray(open_ended(samples, training=False))
        outputs = {}
        for scheme in schemes:
            for target in FORMATS:
                began = time.perf_counter()
                try:
                    convert = convert_tflite if target == "tflite" else convert_onnx
                    data = convert(open_ended, scheme, calibration=samples if scheme == "int8" else None)
                    loaded = load_exported("tflite-model" if target == "tflite" else "onnx-model", data)
                    given = dict(zip(open_ended.input_names, samples, strict=True))
                    (values,) = loaded.run(given).values()
                except SecateurError as error:
                    found["reasons"][f"{target}/{scheme}"] = f"{error.what} {error.hint or ''}"[:500]
                    continue
                found[f"{target}/{scheme}"] = relative_difference(expected, values)
                found[f"{target}/{scheme} s"] = time.perf_counter() - began
                outputs[target, scheme] = values
                if (target, scheme) == ("onnx", "float32"):
                    found |= counts(data)
    if len({(target, "float32") for target in FORMATS} & outputs.keys()) == len(FORMATS):
        found["between"] = relative_difference(*(outputs[target, "float32"] for target in FORMATS))
    if max(found.get(key, 0.0) for key in FLOAT) > NEAR:
        found["rounding"] = own_rounding(model, samples)
    return found


def own_rounding(model: Any, samples: list[Any]) -> float:
    """Return how far Keras itself is in float32 from the same network in float64."""
    from stages.keras.closing import before_squashing

    with before_squashing(model) as open_ended:
        return rounding_of(open_ended, in_float64(open_ended), samples)


def in_float64(network: Any) -> Any:
    """Build the same network in float64, with other weights."""
    from stages.keras.tensorflow import import_keras

    keras = import_keras()
    config = json.dumps(network.get_config()).replace('"float32"', '"float64"')
    keras.backend.set_floatx("float64")
    try:
        with keras.utils.custom_object_scope({type(layer).__name__: type(layer) for layer in network.layers}):
            return type(network).from_config(json.loads(config))
    finally:
        keras.backend.set_floatx("float32")


def rounding_of(network: Any, double: Any, samples: list[Any]) -> float:
    """Return how far a network is from its float64 counterpart, which takes its present weights."""
    import numpy as np

    from stages.keras.normal_form import relative_difference, renew_constants

    double.set_weights(network.get_weights())
    renew_constants(double)  # a Normalization computes with what it had when it was built
    exact = np.asarray(double([values.astype(np.float64) for values in samples], training=False))
    return relative_difference(exact, np.asarray(network(samples, training=False)))


def counts(data: bytes) -> dict[str, int]:
    import onnx

    kinds = [node.op_type for node in onnx.load_from_string(data).graph.node]
    return {"nodes": len(kinds), "convolutions": kinds.count("Conv"), "transposes": kinds.count("Transpose")}


HEADER = (
    f"{'model':<18} {'size':>4} {'params M':>8} {'tflite':>8} {'onnx':>8} {'between':>8} {'nodes':>6} {'Transp.':>7} "
    f"{'s':>11} int8"
)


def row(name: str, found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"{name:<18} {found['failed'].splitlines()[-1]}"

    def figure(key: str, form: str) -> str:
        return format(found[key], form) if key in found else "-"

    quantized = [f"{target} {figure(f'{target}/int8', '.2f')}" for target in FORMATS]
    return (
        f"{name:<18} {found['size']:>4} {found['params'] / 1e6:>8.1f} {figure('tflite/float32', '8.0e')} "
        f"{figure('onnx/float32', '8.0e')} {figure('between', '8.0e')} {figure('nodes', '6d')} "
        f"{figure('transposes', '7d')} {figure('tflite/float32 s', '5.1f')} {figure('onnx/float32 s', '5.1f')} "
        f"{', '.join(quantized)}"
    )


def sound(found: dict[str, Any]) -> bool:
    """Return whether both files match Keras: to 1e-4, or as well as Keras' own float32 computes this network.

    If that tells nothing, the network with smaller scales decides.
    """
    if "failed" in found:
        return False
    if "calm" in found:
        calm = found["calm"]
        return sound(calm) and bool(calm["moves"] > 10 * max(calm[key] for key in FLOAT))
    return all(found.get(key, 1.0) <= max(NEAR, 2 * found.get("rounding", 0.0)) for key in FLOAT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--only", default="*", help="models whose name matches")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return 0
    results = Results(options.work, Path(__file__))
    names = in_fresh_process(str(ROOT / "benchmarks" / "applications.py"), "--list")
    table = dict[str, dict[str, Any]]()
    print(HEADER, flush=True)
    wanted = sorted(name for name in names if fnmatchcase(name, options.only))
    if not wanted:
        parser.error(f"no network is called {options.only}")
    made = results.each_apart(__file__, [({"model": name}, [name]) for name in wanted])
    for name, found in zip(wanted, made, strict=True):
        table[name] = {"failed": found} if isinstance(found, str) else found
        print(row(name, table[name]), flush=True)
    calmed = [name for name, found in table.items() if sound(found) and "calm" in found]
    rounded = [name for name, found in table.items() if sound(found) and "rounding" in found and name not in calmed]
    near = [name for name, found in table.items() if sound(found) and "rounding" not in found]
    whole = [name for name, found in table.items() if all(f"{target}/int8" in found for target in FORMATS)]
    print(f"\n{len(near)} of {len(table)}: float32 within {NEAR:.0e}; {len(whole)}: int8 in both formats")
    print(f"{len(rounded)} more within twice Keras' own rounding: {', '.join(rounded) or '-'}")
    print(f"{len(calmed)} more with less of each scale: {', '.join(calmed) or '-'}")
    for name, found in table.items():
        if "rounding" in found:
            print(f"  {name}: beyond {NEAR:.0e}; Keras' own float32 is {found['rounding']:.1e} from float64")
        if "calm" in found:
            calm = found["calm"]
            figures = ", ".join(f"{key} {calm.get(key, 1.0):.0e}" for key in FLOAT)
            print(f"  {name} at {calm['scale']:.2f} of its scales: {figures}; outputs move by {calm['moves']:.0e}")
        for pair, reason in found.get("reasons", {}).items():
            print(f"  {name} {pair}: {reason}")
    return 0 if all(sound(found) for found in table.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
