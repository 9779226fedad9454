"""Measure what equalizing gives and costs: int8 of networks with normalizations behind ReLUs, with and without it.

For the two networks of `int8_networks.py` that are trained so: accuracy of float32 and of int8 in both runtimes over
the whole test sets; latency of both int8 files, interleaved (fresh processes in turns, one thread), as a ratio; CPU
seconds of making the file, equalizing included. Then the same seconds for the other networks. And what a whole run
takes for its files: `quantize` and `export` by their defaults, float32 and int8 in both formats, which equalizes once.

Exit status 1, and MISSED, unless int8 is within 0.3 points of float32 in both runtimes, at least 1.15 times as fast as
without, and making the files takes at most 1.3 times as long (all networks together), one by one and in a run.

    python benchmarks/equalizing.py --data DIR [--work DIR] [--rounds 20]      # DIR: see public_models.py
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cold_demo import family
from fresh import ROOT
from int8_losses import run_onnx, run_tflite
from int8_networks import SMALL, Case, networks
from resumable import DEFAULT_WORK, Results

TRAINED_SO = ("relu_bn_demo", "relu_bn_cifar")
FORMATS, RUN = ("tflite", "onnx"), "run"
RUNS = SMALL  # the others take a few seconds
RECIPE = """\
name: equalizing
model: {folder}/model.keras
data: {{source: npz, path: {folder}/data.npz, calibration: {{from: train, take: {samples}}}}}
stages:
  - load
  - quantize: {{schemes: [float32, int8: {{scheme: int8{setting}}}]}}
  - export: {{formats: [tflite, onnx]}}
"""
LOST, FASTER, LONGER = 0.003, 1.15, 1.3
ROUNDING = 1e-9  # of a difference of accuracies: 6 of 2,000 images are 0.3 points
TURNS = 3


def made(case: Case, file_format: str, *, equalize: bool) -> tuple[bytes, float]:
    """Return the int8 file as a recipe makes it, and the CPU seconds that it took."""
    from stages.formats.onnx.convert import convert_onnx
    from stages.formats.tflite.convert import convert_tflite
    from stages.keras.equalizing.equalize import equalized

    began = time.process_time()
    model = equalized(case.model, [case.calibration]).model if equalize else case.model
    convert = convert_tflite if file_format == "tflite" else convert_onnx
    return convert(model, "int8", calibration=case.calibration), time.process_time() - began


def seconds_of_all() -> float:
    """Return the CPU seconds of this process and its children so far: exports run apart."""
    ticks = 0
    for pid in family(os.getpid()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))  # own ones, and those of children that ended, in user and system mode
    return ticks / os.sysconf("SC_CLK_TCK")


def run_row(case: Case) -> dict[str, Any]:
    """Return the CPU and wall seconds of a run from a loaded model to its files, with and without equalizing."""
    import numpy as np

    from pipeline import Recipe, run

    taken: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case.model.save(folder / "model.keras")
        np.savez(folder / "data.npz", x_train=case.calibration, y_train=np.zeros(len(case.calibration), np.int64))
        for turn in range(TURNS + 1):
            for equalize, seconds in taken.items():
                recipe, store = folder / f"{equalize}.yaml", folder / f"store-{turn}-{equalize}"
                setting = "" if equalize else ", equalize: false"
                recipe.write_text(RECIPE.format(folder=folder, samples=len(case.calibration), setting=setting))
                run(Recipe.load(recipe), store=store, until="load")
                began = seconds_of_all(), time.perf_counter()
                run(Recipe.load(recipe), store=store, until="export")
                seconds.append((seconds_of_all() - began[0], time.perf_counter() - began[1]))
    rest = {which: seconds[1:] for which, seconds in taken.items()}  # the first ones import
    cpu, wall = ([min(one[kind] for one in rest[which]) for which in (False, True)] for kind in (0, 1))
    return {"seconds": cpu, "wall": wall}


def row_of(name: str, file_format: str, data: Path, work: Path, rounds: int) -> dict[str, Any]:
    """Return accuracies, the ratio of latencies with its interval, and seconds with and without equalizing."""
    import numpy as np

    from stages.keras.tensorflow import tensorflow_action

    with tensorflow_action(0, 2):
        case = networks(data, work)[name]()
    if file_format == RUN:
        return run_row(case)
    with tensorflow_action(0, 2):
        made(case, file_format, equalize=True)  # imports
        files, seconds = {}, dict[bool, list[float]]()
        for _ in range(TURNS):
            for equalize in (False, True):
                files[equalize], took = made(case, file_format, equalize=equalize)
                seconds.setdefault(equalize, []).append(took)
        row: dict[str, Any] = {"seconds": [min(seconds[which]) for which in (False, True)]}
        if name not in TRAINED_SO:
            return row
        wanted = np.asarray(case.model.predict(case.x, batch_size=250, verbose=0)).argmax(1)
        run = run_tflite if file_format == "tflite" else run_onnx
        found = [run(files[which], case.x).argmax(1) for which in (False, True)]
        row |= {"accuracies": [float((classes == case.y).mean()) for classes in (wanted, *found)]}
        return row | {"ratio": latency_ratio(files, file_format, rounds)}


def latency_ratio(files: Mapping[bool, bytes], file_format: str, rounds: int) -> list[float]:
    """Return how many times as fast the equalized file is: the ratio, and the ends of its interval."""
    from pipeline.contracts.events import ActionEvents, silent
    from stages.benchmark.summary import ratio_of
    from stages.devices.rounds import Subject, measure_rounds
    from stages.devices.target import Sampling

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = {which: folder / f"{which}.{file_format}" for which in files}
        for which, path in paths.items():
            path.write_bytes(files[which])
        found = measure_rounds(
            {"baseline": Subject(paths[False], "plain"), "candidate": Subject(paths[True], "equalized")},
            "cpu",
            rounds,
            Sampling(seconds=0.1, threads=1),
            folder,
            ActionEvents("equalizing", silent),
        )
    ratio = ratio_of(found)
    return [1 / ratio.point, 1 / ratio.high, 1 / ratio.low]


def told(rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[bool]:
    """Print each row and each verdict; yield what was missed."""
    for (name, file_format), row in rows.items():
        before, after = row["seconds"]
        text = f"{name:18}{file_format:7}{before:6.1f} → {after:.1f} CPU s"
        if "wall" in row:
            text += "; {:.1f} → {:.1f} s of wall time".format(*row["wall"])
        if "ratio" in row:
            exact, plain, ours = row["accuracies"]
            point, low, high = row["ratio"]
            text += f"; float32 {exact:.2%}, int8 {plain:.2%} → {ours:.2%}, ×{point:.2f} faster [{low:.2f}, {high:.2f}]"
            verdicts = {"accuracy": exact - ours <= LOST + ROUNDING, "speed": point >= FASTER}
            text += "".join(f", {what}: {'ok' if fine else 'MISSED'}" for what, fine in verdicts.items())
            yield not all(verdicts.values())
        print(text, flush=True)
    for what, chosen in {"all files": FORMATS, "all runs": (RUN,)}.items():
        pairs = [row["seconds"] for (_, file_format), row in rows.items() if file_format in chosen]
        before, after = map(sum, zip(*pairs, strict=True))
        fine = after <= LONGER * before
        text = f"{what}: {after / before:.2f}× the CPU time, wanted ≤ {LONGER}×"
        print(f"{text}: {'ok' if fine else 'MISSED'}", flush=True)
        yield not fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK / "int8")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.one:
        name, file_format = options.one
        print(json.dumps(row_of(name, file_format, options.data, options.work, options.rounds)))
        return 0
    parts = [ROOT / "benchmarks" / f"{module}.py" for module in ("int8_networks", "int8_losses")]
    results = Results(options.work, Path(__file__), *parts)
    cases = [(name, file_format) for name in networks(options.data, options.work) for file_format in FORMATS]
    cases += [(name, RUN) for name in RUNS]
    shared = ["--data", str(options.data), "--work", str(options.work), "--rounds", str(options.rounds)]
    asked = [({"name": name, "format": made_as}, [name, made_as, *shared]) for name, made_as in cases]
    rows = dict(zip(cases, results.each_apart(__file__, asked), strict=True))
    failed = {case: row for case, row in rows.items() if isinstance(row, str)}
    for case, words in failed.items():
        print(case, words[-300:], flush=True)
    missed = list(told({case: row for case, row in rows.items() if case not in failed}))
    return 1 if any(missed) or failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
