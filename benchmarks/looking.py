"""Does looking at a model change it, and does one input digest give one file?

1. Everything in this project that only looks at a Keras model (`lookers.py`) looks at each network of
   tf_keras.applications (random weights, the smallest input that it takes) and at small networks of every form:
   configuration, weights, outputs and attributes of the layers' instances must be bit-equal before and after each
   look. A network whose outputs do not depend on its inputs proves nothing and is refused. Conversion to int8 is
   among the looks for the first network of each family.
2. Recipes run in one go, in two goes, and each stage in a separate process: the digests of all artifacts except times
   must be equal.

Each network runs in a separate process; a killed run resumes. Exit status 1 unless there are 0 differences.

    python benchmarks/looking.py [--work DIR] [--only PATTERN]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from applications import shake, smallest
from fresh import ROOT, in_fresh_process
from lookers import lookers, state_of
from resumable import DEFAULT_WORK, Results
from small_networks import NETWORKS

SAMPLES = 2
CALMED = 7  # powers of ten that the last layer's weights are divided by, beginning with none
SETTLED = 8  # samples of which batch normalizations then get the statistics
CONVERTED = "operators"  # of the small networks, the one that is converted as well
FILES = {"tflite", "tflite int8", "onnx", "ladder", "profile", "verify"}
STAGES = ("load", "prune", "finetune", "strip", "quantize", "export", "verify")
TIMES = {"ladder-report", "latency-samples", "profile"}  # kinds of artifacts that hold times
DEMO = ROOT / "configs" / "demo.yaml"
OPERATORS = """\
name: operators
seed: 3
model: model.keras
data: {source: npz, path: data.npz, test: test}
stages:
  - load
  - prune: {criterion: taylor, ratio: 0.3}
  - finetune: {epochs: 1}
  - strip
  - quantize: {schemes: [float32, int8], ladder: [int8, float16], max_accuracy_drop: 0.5}
  - export: {formats: [tflite, onnx], unsupported: skip}
  - verify
"""


def looked_at(name: str, *, first: bool) -> dict[str, Any]:
    """Return which looks changed a network, in this process, and which did not apply to it."""
    from pipeline.errors import SecateurError
    from stages.keras.normal_form import random_inputs
    from stages.keras.tensorflow import import_keras

    import_keras().utils.set_random_seed(1)
    if name in NETWORKS:
        model, without = NETWORKS[name](), set() if name == CONVERTED else FILES
    else:
        model, without = smallest(name)[0], set() if first else {"tflite int8"}
        shake(model)
    arrays = dict(zip(model.input_names, random_inputs(model, SAMPLES), strict=True))
    before = followed(name, model, arrays)
    found: dict[str, Any] = {"looks": 0, "changed": {}, "no chance": {}}
    for looker, look in lookers().items():
        if looker in without:
            continue
        try:
            look(model, arrays)
            found["looks"] += 1
        except SecateurError as error:
            found["no chance"][looker] = error.what[:120]
        after = state_of(model, arrays)
        if after != before:
            found["changed"][looker] = [part for part in before if before[part] != after[part]]
            before = after
    return found


def followed(name: str, model: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a model whose outputs differ between inputs; SystemExit if they do not.

    Random weights make some logits so large that a closing softmax gives 0 and 1 for any input: the last layer's
    weights are reduced until it does not. In the deepest networks signals grow from block to block until they are
    infinite, in others every ReLU6 is at 6: then batch normalizations get the statistics of other inputs.
    """
    from oracle_networks import settle

    from stages.keras.normal_form import random_inputs
    from stages.keras.tensorflow import import_keras

    turned = {key: values[::-1] for key, values in arrays.items()}
    last = model.layers[-1]
    drawn = last.get_weights()
    for settled in (False, True):
        if settled:
            settle(model, import_keras(), random_inputs(model, SETTLED, seed=1))
        for step in range(CALMED):
            last.set_weights([weight / 10**step for weight in drawn])
            state = state_of(model, arrays)
            if state_of(model, turned)["outputs"] != state["outputs"]:
                return state
    raise SystemExit(f"{name}: its outputs do not follow its inputs, so that they stay equal proves nothing")


def in_pieces(recipe: Path, *settings: str) -> dict[str, Any]:
    """Count artifacts of a recipe whose digests differ in two goes or in one process per stage from those in one go."""
    with tempfile.TemporaryDirectory(prefix="secateur-") as name:
        stores = {way: Path(name) / way for way in ("one", "two", "many")}
        whole = _digests(recipe, stores["one"], STAGES[-1], settings)
        parts = {
            "two goes": {**_digests(recipe, stores["two"], "finetune", settings)}
            | _digests(recipe, stores["two"], STAGES[-1], settings),
            "a process a stage": {
                key: digests
                for stage in STAGES
                for key, digests in _digests(recipe, stores["many"], stage, settings).items()
            },
        }
    differing = {
        way: [key for key in whole.keys() | found.keys() if whole.get(key) != found.get(key)]
        for way, found in parts.items()
    }
    return {"artifacts": sum(map(len, whole.values())), "differing": differing}


def _digests(recipe: Path, store: Path, until: str, settings: tuple[str, ...]) -> dict[str, list[str]]:
    words = ["run", str(recipe), "--store", str(store), "--until", until, "--json"]
    words += [word for setting in settings for word in ("--set", setting)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *words], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode not in (0, 1):  # 1: after one epoch the demo is not accurate enough for its gate
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    manifest = json.loads(done.stdout)
    return {
        entry["id"]: [output["digest"] for output in entry["outputs"] if output["kind"] not in TIMES]
        for entry in manifest["stages"]
    }


def operators_recipe(folder: Path) -> Path:
    """Write a recipe for the network of operators, with data that it labels itself."""
    import numpy as np

    model = NETWORKS["operators"]()
    x = np.random.default_rng(0).normal(60, 60, (200, *model.input_shape[1:])).astype(np.float32)
    y = model.predict(x, verbose=0).argmax(1)
    model.save(folder / "model.keras")
    np.savez(folder / "data.npz", x_train=x[:150], y_train=y[:150], x_test=x[150:], y_test=y[150:])
    (folder / "operators.yaml").write_text(OPERATORS)
    return folder / "operators.yaml"


def one(name: str) -> dict[str, Any]:
    """Run the part of this program with this name, in this process."""
    if name == "recipe demo":
        return in_pieces(DEMO, "stages.finetune.epochs=1")
    if name == "recipe operators":
        with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
            return in_pieces(operators_recipe(Path(folder)))
    kind, _, rest = name.partition(" ")
    return looked_at(rest, first=kind == "first")


def parts() -> Iterator[str]:
    """Yield names of all parts, such as the first network of each family."""
    yield from ("recipe demo", "recipe operators")
    yield from (f"first {name}" for name in NETWORKS)
    seen = set()
    for name, family in in_fresh_process(str(ROOT / "benchmarks" / "applications.py"), "--list").items():
        yield f"{'another' if family in seen else 'first'} {name}"
        seen.add(family)


def row(name: str, found: Any) -> str:
    if isinstance(found, str):
        return f"{name:<32} {found.splitlines()[-1]}"
    if "artifacts" in found:
        differing = "; ".join(f"{way}: {', '.join(ids) or 'none'}" for way, ids in found["differing"].items())
        return f"{name:<32} {found['artifacts']} artifacts, other digests in {differing}"
    changed = "; ".join(f"{looker} changed {', '.join(what)}" for looker, what in found["changed"].items())
    without = f" ({len(found['no chance'])} not for it)" if found["no chance"] else ""
    return f"{name:<32} {found['looks']} looks{without}: {changed or 'bit-equal'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--only", default="*", help="parts whose name matches")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one)))
        return 0
    results = Results(options.work, Path(__file__))
    table: dict[str, Any] = {}
    wanted = [name for name in parts() if fnmatchcase(name, options.only)]
    if not wanted:
        parser.error(f"no part is called {options.only}: they are 'recipe NAME', 'first NETWORK', 'another NETWORK'")
    made = results.each_apart(__file__, [({"part": name}, [name]) for name in wanted])
    for name, found in zip(wanted, made, strict=True):
        table[name] = found
        print(row(name, found), flush=True)
    failed = [name for name, found in table.items() if isinstance(found, str)]
    networks = {name: found for name, found in table.items() if name not in failed and "looks" in found}
    recipes = [found for name, found in table.items() if name not in failed and "artifacts" in found]
    changed = sum(len(found["changed"]) for found in networks.values())
    other = sum(len(ids) for found in recipes for ids in found["differing"].values())
    looks = sum(found["looks"] for found in networks.values())
    print(f"\n{len(networks)} networks, {looks} looks: {changed} differences")
    print(f"{len(recipes)} recipes in one go, in two, in a process a stage: {other} different digests")
    if failed:
        print(f"not measured: {', '.join(failed)}")
    return 0 if not (failed or changed or other) else 1


if __name__ == "__main__":
    raise SystemExit(main())
