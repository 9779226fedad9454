"""Load every kind of model file, of seven networks, saved by Keras 2 and 3: do all load, with equal outputs?

Each network gets random weights, with all scales, shifts and statistics randomized, and the smallest input it takes. It
is saved in every way that its Keras has; `load_model` reads each file, and its outputs on random inputs are compared
with those of the model that was saved. A network of one Keras is a fresh process; results are kept in a state file, so
that a killed run resumes (results of other code are ignored).

Exit status 1 unless all load, with a largest output difference of at most 1e-5 relative.

With `--base`, a checkout of another commit (its packages are taken from there, its libraries from here), each file is
loaded by both, in turns, in fresh processes: one that loads it once to be warm, and then `--rounds` times. The ratio
compares the sums over all files of each file's minimum processor time. Exit status 1 also if it is more than 1.05.

    python benchmarks/loaders.py [--work DIR] [--only PATTERN] [--base DIR [--rounds 3]]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fresh import ROOT, with_modules_of
from resumable import DEFAULT_WORK, Results

TOLERANCE = 1e-5
SLOWER = 1.05  # maximum ratio of loading time to the other commit's
CLASSES = 1000  # the default size of an application of the same name
SIZES = {"Sequential": 32, "MobileNet": 32, "MobileNetV2": 32, "EfficientNetB0": 32, "ResNet50": 32, "Xception": 71}
SIZES |= {"DenseNet121": 32}
KINDS = {
    2: ("keras", "h5", "hdf5, no suffix", "SavedModel", "json + .weights.h5", "json + .h5", "json + SavedModel"),
    3: ("keras", "h5", "hdf5, no suffix", "json + .weights.h5", "json + .h5"),
}
OF_APPLICATIONS = ("application + .weights.h5", "application + .h5")


def kinds(model: str, version: int) -> tuple[str, ...]:
    return KINDS[version] + (() if model == "Sequential" else OF_APPLICATIONS)


def built(keras: Any, name: str) -> Any:
    """Build the network in one Keras, without trained weights."""
    shape = (SIZES[name], SIZES[name], 3)
    if name != "Sequential":
        return getattr(keras.applications, name)(weights=None, input_shape=shape)
    layers = keras.layers
    blocks = [
        layer
        for width in (16, 32)
        for layer in (
            layers.Conv2D(width, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.SeparableConv2D(width, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.2),
        )
    ]
    head = [layers.Flatten(), layers.Dense(64, activation="gelu"), layers.Dense(10, activation="softmax")]
    return keras.Sequential([keras.Input(shape), layers.Rescaling(1 / 127.5, -1), *blocks, *head])


def shake(model: Any) -> None:
    """Randomize scales and variances around 1, shifts and means around 0, for every weight with one number
    per channel.
    """
    import numpy as np

    from stages.keras.normal_form import renew_constants

    rng = np.random.default_rng(1)
    for variable in model.weights:
        name = getattr(variable, "path", variable.name)
        if len(variable.shape) == 1 and "float" in str(variable.dtype):
            scale = any(word in name for word in ("gamma", "variance"))
            shape = tuple(variable.shape)
            variable.assign(rng.uniform(0.5, 1.5, shape) if scale else rng.normal(0, 0.2, shape))
    renew_constants(model)


def saved(model: Any, name: str, version: int, kind: str, folder: Path) -> dict[str, Any]:
    """Save the network in one way, and return the arguments of `load_model`."""
    match kind:
        case "keras" | "h5":
            model.save(folder / f"m.{kind}")
            return {"source": folder / f"m.{kind}"}
        case "hdf5, no suffix":
            model.save(folder / "plain.h5")
            (folder / "plain.h5").rename(folder / "model_of_tuesday")
            return {"source": folder / "model_of_tuesday"}
        case "SavedModel":
            model.save(folder / "saved", save_format="tf")
            return {"source": folder / "saved"}
    (folder / "m.json").write_text(model.to_json())
    architecture, _, suffix = kind.partition(" + ")
    weights = folder / f"w{suffix}"
    if suffix == "SavedModel":
        import tensorflow as tf

        tf.saved_model.save(model, str(weights))
    elif suffix == ".h5" and version == 3:  # Keras 3 writes weights alone only in its newer layout
        model.save(weights)
    else:
        model.save_weights(weights)
    if architecture == "json":
        return {"source": folder / "m.json", "weights": weights}
    shape = [SIZES[name], SIZES[name], 3]
    return {"source": {"application": name, "weights": str(weights), "input_shape": shape}}


def measured(name: str, version: int) -> dict[str, Any]:
    """Return for each kind of file the largest relative difference, or what went wrong; in this process."""
    import numpy as np

    from stages.keras.tensorflow import import_keras
    from stages.load import load_model
    from stages.load.keras3 import import_keras3

    keras = import_keras() if version == 2 else import_keras3()
    keras.utils.set_random_seed(1)
    model = built(keras, name)
    shake(model)
    inputs = np.random.default_rng(2).uniform(0, 255, (4, SIZES[name], SIZES[name], 3)).astype(np.float32)
    expected = np.asarray(model(inputs, training=False))
    found: dict[str, Any] = {}
    for kind in kinds(name, version):
        with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
            try:
                loaded = load_model(**saved(model, name, version, kind, Path(folder))).model
                outputs = np.asarray(loaded(inputs, training=False))
                found[kind] = float(np.max(np.abs(outputs - expected)) / np.max(np.abs(expected)))
            except Exception as error:  # noqa: BLE001 - the table has room for every failure
                found[kind] = f"{type(error).__name__}: {error}"
    return found


def in_fresh_process(name: str, version: int) -> Any:
    return _json_of(ROOT, "--one", name, str(version))


def _json_of(code: Path, *words: str) -> Any:
    """Return what this program prints last, run with the packages of the checkout `code`."""
    environment = with_modules_of(code)
    command = [sys.executable, __file__, *words]
    done = subprocess.run(command, cwd=code, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout.splitlines()[-1])


def write_all(name: str, version: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Save the network in every way, each in a separate folder; return the arguments of `load_model` for each."""
    from stages.keras.tensorflow import import_keras
    from stages.load.keras3 import import_keras3

    keras = import_keras() if version == 2 else import_keras3()
    keras.utils.set_random_seed(1)
    model, found = built(keras, name), {}
    shake(model)
    for place, kind in enumerate(kinds(name, version)):
        (folder / str(place)).mkdir()
        given = saved(model, name, version, kind, folder / str(place))
        found[kind] = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
    return found


def seconds(files: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the processor seconds of loading each file, in a process that has loaded the first before."""
    from stages.load import load_model

    load_model(**next(iter(files.values())))
    found = {}
    for kind, given in files.items():
        start = time.process_time()
        load_model(**given)
        found[kind] = time.process_time() - start
    return found


def ratio(name: str, version: int, base: Path, rounds: int) -> tuple[float, float]:
    """Return the seconds for all files of one network: at the other commit, and here."""
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        listed = Path(folder) / "files.json"
        listed.write_text(json.dumps(_json_of(ROOT, "--write", name, str(version), folder)))
        times: dict[Path, list[dict[str, float]]] = {base: [], ROOT: []}
        for turn in range(rounds):
            for code in (base, ROOT) if turn % 2 == 0 else (ROOT, base):
                times[code].append(_json_of(code, "--time", str(listed)))
    then, now = (sum(min(one[kind] for one in times[code]) for kind in times[code][0]) for code in (base, ROOT))
    return then, now


def table(found: Mapping[tuple[str, int], Mapping[str, Any]], show: Callable[[str], None]) -> bool:
    """Print a line for each way of saving with each Keras, a column for each network; return whether all are right."""
    names = list(dict.fromkeys(name for name, _ in found))
    show(f"{'saved by':<9}{'as':<27}" + "".join(f"{name:>15}" for name in names))
    right = True
    for version in KINDS:
        for kind in (*KINDS[version], *OF_APPLICATIONS):
            cells = [found.get((name, version), {}).get(kind) for name in names]
            shown = ["" if c is None else f"{c:.1e}" if isinstance(c, float) else "refused" for c in cells]
            show(f"{f'Keras {version}':<9}{kind:<27}" + "".join(f"{cell:>15}" for cell in shown))
            right &= all(c is None or (isinstance(c, float) and c <= TOLERANCE) for c in cells)
    for (name, version), results in found.items():
        for kind, result in results.items():
            if isinstance(result, str):
                show(f"  {name}, Keras {version}, {kind}: {result}")
    numbers = [c for results in found.values() for c in results.values()]
    loaded = [c for c in numbers if isinstance(c, float)]
    show(f"{len(loaded)} of {len(numbers)} load; largest difference {max(loaded, default=float('nan')):.1e}")
    return right and bool(numbers)


def compared(options: argparse.Namespace, networks: list[tuple[str, int]], results: Results) -> bool:
    """Print a line for each network, and the sum; return whether loading is within the bound."""
    sums = [0.0, 0.0]
    for name, version in networks:
        case = {"network": name, "keras": version, "base": str(options.base), "rounds": options.rounds}
        if results.get(case) is None:
            results.add(case, ratio(name, version, options.base.resolve(), options.rounds))
        then, now = results.get(case)
        sums = [sums[0] + then, sums[1] + now]
        print(f"{name:<16} Keras {version}: {then:7.2f} s at the other commit, {now:7.2f} s here: {now / then:.3f}")
    print(f"all files: {sums[0]:.1f} s at the other commit, {sums[1]:.1f} s here: {sums[1] / sums[0]:.3f}")
    return sums[1] <= SLOWER * sums[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--only", default="*", help="networks whose name matches")
    parser.add_argument("--base", type=Path, help="a checkout of another commit, to be timed against")
    parser.add_argument("--rounds", type=int, default=3, help="how often each checkout loads each file")
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "KERAS"), help="measure here, print JSON")
    parser.add_argument("--write", nargs=3, metavar=("NETWORK", "KERAS", "DIR"), help="save the files, print JSON")
    parser.add_argument("--time", type=Path, metavar="FILE", help="load what is listed there, print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one[0], int(options.one[1]))))
        return 0
    if options.write:
        print(json.dumps(write_all(options.write[0], int(options.write[1]), Path(options.write[2]))))
        return 0
    if options.time:
        print(json.dumps(seconds(json.loads(options.time.read_text()))))
        return 0
    results, found = Results(options.work, Path(__file__)), {}
    networks = [(name, version) for name in SIZES for version in KINDS if fnmatchcase(name, options.only)]
    for name, version in networks:
        case = {"network": name, "keras": version}
        if results.get(case) is None:
            results.add(case, in_fresh_process(name, version))
        found[name, version] = results.get(case)
        print(f"{name}, Keras {version}", file=sys.stderr, flush=True)
    right = table(found, print)
    return 0 if (compared(options, networks, results) if options.base else True) and right else 1


if __name__ == "__main__":
    raise SystemExit(main())
