"""Measure what a budget of bytes buys: layers kept in float32 by the search, in its order reversed, and at random.

Each network is searched by `quantize` with three budgets, shares of the bytes between its int8 and its float32 file.
The controls keep 1, 2, 4, … layers, as many as fit: of the search's candidates in the reverse of its order, and of all
layers with kernels in three random orders. `noise` is the power of the outputs' errors relative to the outputs' and
`lost` how often the file names another class than Keras, both on test inputs that no choice has seen: the search sees
256 others. Exit status 1 if a file that the search chose exceeds its budget, or if its noise on the test inputs is
above a control's in one budget by more than a tenth.

    python benchmarks/mixed_precision.py --data DIR --work DIR [--networks NAME ...]   # DIR: see public_models.py
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from int8_networks import Case, networks
from resumable import DEFAULT_WORK

NAMES = ("keyword_spotting", "resnet8", "MobileNetV2")
SHARES = (0.1, 0.25, 0.5)  # of the bytes between int8 and float32
VALIDATION, TEST, ORDERS, MARGIN = 256, 744, 3, 1.1
Layers = tuple[str, ...]


@dataclass(frozen=True)
class File:
    """Hold a file's size, and what it loses on the test inputs."""

    size_bytes: float
    noise: float
    lost: float


def write_inputs(case: Case, folder: Path) -> None:
    """Write the model and its data; labels are the classes that Keras names."""
    import numpy as np

    from stages.keras.normal_form import encode_model

    (folder / "model.keras").write_bytes(encode_model(case.model))
    parts = {"train": case.calibration, "val": case.x[:VALIDATION], "test": case.x[VALIDATION : VALIDATION + TEST]}
    arrays = {f"x_{name}": x for name, x in parts.items()}
    labels = {f"y_{name}": case.model.predict(x, verbose=0).argmax(1) for name, x in parts.items()}
    np.savez(folder / "data.npz", **arrays, **labels)


def made(folder: Path, schemes: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, File], dict[str, Any]]:
    """Return the files of these schemes, and the reports of those with a budget, by name."""
    from pipeline import Recipe, run
    from stages.quantize.budget_facts import BudgetFacts

    none = {"max_diff": None, "min_cosine": None}
    recipe = {
        "name": "mixed",
        "model": "model.keras",
        "data": {"source": "npz", "path": "data.npz", "validation": "val", "test": "test"}
        | {"calibration": {"from": "train", "take": 256}},
        "stages": [
            "load",
            {"quantize": {"schemes": [{name: dict(settings)} for name, settings in schemes.items()]}},
            {"export": {"formats": ["tflite"]}},
            {"verify": {"tolerances": {"int8": none}}},
        ],
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    manifest = run(Recipe.load(folder / "recipe.yaml"), folder / "store")
    found = manifest.metrics
    files = {
        name: File(
            found[f"tflite/{name}.size_bytes"],
            10 ** (-found[f"tflite/{name}.sqnr_db"] / 10),
            found[f"tflite/{name}.accuracy_drop_reference"],
        )
        for name in schemes
    }
    facts = {
        str(entry.axis): output.facts
        for entry in manifest.stages
        for output in entry.outputs
        if isinstance(output.facts, BudgetFacts)
    }
    return files, facts


def candidates(report: Any) -> list[Layers]:
    """Return what the search measured alone in int8, in its order: that first which gains most for its bytes."""
    _, whole, *others = report.tries
    rated = []
    for one in others[: report.budget.candidates]:
        unit = tuple(name for name in whole.kept_float if name not in one.kept_float)
        if unit and len(whole.kept_float) == len(one.kept_float) + len(unit):
            rated.append(((one.noise - whole.noise) / max(whole.size_bytes - one.size_bytes, 1), unit))
    return [unit for _, unit in sorted(rated, reverse=True)]


def orders(case: Case, ours: Sequence[Layers]) -> Iterator[tuple[str, list[Layers]]]:
    """Yield the orders of the controls by name."""
    from stages.keras.layer_calls import layer_names

    yield "reverse", list(reversed(ours))
    kernels = {layer.name for layer in case.model._flatten_layers() if hasattr(layer, "kernel_initializer")}
    kernels |= {layer.name for layer in case.model._flatten_layers() if hasattr(layer, "depthwise_initializer")}
    layers = [(name,) for name in layer_names(case.model) if name in kernels]
    for seed in range(ORDERS):
        yield f"random{seed}", random.Random(seed).sample(layers, len(layers))


def measure(name: str, case: Case, folder: Path) -> bool:
    """Print a network's rows; return whether budgets are held, and no control is better."""
    from stages.quantize.budget import doubling

    write_inputs(case, folder)
    ends, _ = made(folder, {"float32": {}, "int8": {}})
    room = ends["float32"].size_bytes - ends["int8"].size_bytes
    limits = {f"share{share:g}".replace(".", "-"): int(ends["int8"].size_bytes + share * room) for share in SHARES}
    searched, reports = made(
        folder, {key: {"scheme": "int8", "budget": {"size_bytes": limit}} for key, limit in limits.items()}
    )
    kept = {
        f"{label}-{count}": tuple(dict.fromkeys(layer for group in order[:count] for layer in group))
        for label, order in orders(case, candidates(reports[next(iter(limits))]))
        for count in doubling(len(order))
    }
    controls, _ = made(folder, {key: {"scheme": "int8", "keep_float": list(layers)} for key, layers in kept.items()})
    tried = {key: len(report.tries) for key, report in reports.items()}
    print(f"{name}: {len(case.model.layers)} layers, files tried {tried}")
    for end in ends:
        print(told(end, ends[end]), flush=True)
    fine = True
    for key, limit in limits.items():
        ours, held = searched[key], searched[key].size_bytes <= limit
        rows = {"search": ours}
        for label in dict.fromkeys(one.rpartition("-")[0] for one in controls):
            fitting = [file for one, file in controls.items() if one.startswith(label) and file.size_bytes <= limit]
            rows[label] = max([*fitting, ends["int8"]], key=lambda file: file.size_bytes)
        best = all(ours.noise <= MARGIN * file.noise for file in rows.values())
        print(f"  at most {limit:,} bytes: held {'ok' if held else 'MISSED'}, best {'ok' if best else 'MISSED'}")
        for label, file in rows.items():
            print(told(label, file), flush=True)
        fine &= held and best
    return fine


def told(label: str, file: File) -> str:
    return f"    {label:9} {file.size_bytes:12,.0f} bytes  noise {file.noise:.2e}  lost {file.lost:7.2%}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK / "int8")
    parser.add_argument("--networks", nargs="+", default=list(NAMES), choices=NAMES)
    options = parser.parse_args()
    made_here = networks(options.data, options.work)
    fine = []
    for name in options.networks:
        folder = options.work / "mixed" / name
        folder.mkdir(parents=True, exist_ok=True)
        fine.append(measure(name, made_here[name](), folder))
    print(f"budgets held, and no control better: {sum(fine)} of {len(fine)} networks")
    return 0 if all(fine) else 1


if __name__ == "__main__":
    raise SystemExit(main())
