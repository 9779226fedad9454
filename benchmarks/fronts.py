"""Find the fastest network that loses at most one point: `secateur optimize` on three networks, as a user runs it.

The command gets a model file and data, `--max-drop 0.01 --target cpu` and a number of minutes on two cores. Its chosen
file is then measured in turns with the plain int8 file of the unpruned model in the same runtime, and both are counted
on an emulated Cortex-A72 as TFLite files. Accuracy is on the half of the test data that the search reads once, at its
end (it chooses by the other half): in the file's own runtime, against the control, which is the unpruned model trained
with the same images, epochs and settings; the interval is of the paired difference. A network without labels is judged
by agreement with the unpruned model.

Exit status 1, and MISSED, unless each file loses at most one point against the control and is, in the middle of the
interval, 1.8 times as fast (1.35 for ResNet-8), and at its lower end 0.9 of that. The search's own picture and recipes
stay in the folder of `--work`. A killed program resumes.

    secateur target setup cortex-a72
    python benchmarks/fronts.py --data DIR [--networks demo …] [--minutes 30] [--work DIR]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fresh import ROOT, with_modules_of
from resumable import DEFAULT_WORK
from search_cases import NAMES, case_of

FASTER = {"demo": 1.8, "resnet8": 1.35, "visual_wake_words": 1.8}
MAX_DROP, LOW_END, CORE = 0.01, 0.9, "cortex-a72"
ROUNDS, SECONDS, Z_95 = 20, 0.1, 1.96


def optimized(folder: Path, model: Path, data: Path, minutes: float) -> tuple[dict[str, Any], float]:
    """Run the command, unless it has ended before; return its document and how many seconds it took."""
    kept = folder / "answer.json"
    if not kept.exists():
        command = [sys.executable, "-m", "pipeline", "optimize", str(model), "--data", str(data), "-o", "front"]
        goal = ["--max-drop", str(MAX_DROP), "--target", "cpu", "--minutes", str(minutes)]
        began = time.monotonic()
        done = subprocess.run(
            [*command, *goal, "--store", str(folder / "store"), "--json"],
            cwd=folder,
            env=with_modules_of(ROOT),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 1, 5):
            raise SystemExit(f"optimize ended with {done.returncode}")
        kept.write_text(json.dumps([json.loads(done.stdout), time.monotonic() - began]))
    answer, seconds = json.loads(kept.read_text())
    return answer, seconds


def file_of(manifest: Any, store: Path, axis: str) -> tuple[str, Path]:
    """Return the kind and the path of an exported file of a run."""
    from pipeline.store import Store

    entry = next(e for e in manifest.stages if e.axis == axis and e.outputs and e.outputs[0].kind.endswith("-model"))
    (file,) = entry.outputs[0].files
    return entry.outputs[0].kind, Store(store).blobs.path(file.digest)


def turns(baseline: Path, candidate: Path) -> Any:
    """Return the candidate's time relative to the baseline's, with its interval."""
    from pipeline.contracts.events import ActionEvents, silent
    from stages.benchmark.summary import ratio_of
    from stages.devices.rounds import Subject, measure_rounds
    from stages.devices.target import Sampling

    with tempfile.TemporaryDirectory() as scratch:
        subjects: Any = {"baseline": Subject(baseline, "plain int8"), "candidate": Subject(candidate, "chosen")}
        sampling = Sampling(seconds=SECONDS, threads=1)
        return ratio_of(measure_rounds(subjects, "cpu", ROUNDS, sampling, Path(scratch), ActionEvents("", silent)))


def counted(file: Path) -> float:
    """Return the instructions of an inference on the emulated core."""
    from stages.devices.target import count

    return count(CORE, file, file.name).metrics["instructions"]


def right(recipe: Any, manifest: Any, store: Path, axis: str) -> tuple[Any, Any]:
    """Return which test samples the file and the control's Keras model name rightly, as booleans (N,)."""
    from pipeline.data import data_source
    from pipeline.store import Store
    from stages.formats.registry import load_exported
    from stages.load import load_model

    split = data_source(recipe.data, recipe.folder, recipe.seed).split("test")
    x, y = split.inputs(), split.y.reshape(-1)
    made = (output for entry in manifest.stages if entry.id.startswith("control") for output in entry.outputs)
    model = [output for output in made if output.kind == "keras-model"][-1].files[0]
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / model.name
        copy.write_bytes(Store(store).blobs.path(model.digest).read_bytes())
        keras = load_model(copy).model
    x = x.reshape(len(x), *keras.input_shape[1:])
    kind, path = file_of(manifest, store, axis)
    file = load_exported(kind, path.read_bytes())
    (outputs,) = file.run({file.inputs[0].name: x}).values()
    return outputs.argmax(1) == y, keras.predict(x, verbose=0).argmax(1) == y


def judged(name: str, options: argparse.Namespace) -> bool:
    """Search for one network, print what was found, and return whether it is what is wanted."""
    from pipeline.recipe.recipe import Recipe
    from pipeline.running.run import run

    folder = options.work / "fronts" / name
    case = case_of(name, options.data, folder)
    answer, seconds = optimized(folder, case.model, case.data, options.minutes)
    in_time = seconds <= 60 * options.minutes
    tried = f"{len(answer['trials'])} candidates, {len(answer['points'])} on the front, {seconds / 60:.1f} min"
    print(f"{name}: {tried}: {'ok' if in_time else 'MISSED'}\n  {answer['verdict']}", flush=True)
    point = next((point for point in answer["points"] if point["letter"] == answer["chosen"]), None)
    if point is None:
        print("  nothing was chosen: MISSED", flush=True)
        return False
    if not point["pruned"]:
        print("  the unpruned model was chosen: MISSED", flush=True)
        return False
    axis, store, path = point["axis"], folder / "store", folder / point["recipe"]
    recipe = Recipe.load(path)
    manifest = run(recipe, store)
    plain = run(Recipe.load(path.with_name("source.yaml")), store)
    file_format = axis.partition("/")[0]
    ratio = turns(file_of(plain, store, f"{file_format}/int8")[1], file_of(manifest, store, axis)[1])
    wanted = FASTER[name]
    fast = 1 / ratio.point >= wanted and 1 / ratio.high >= LOW_END * wanted
    print(
        f"  {axis}: ×{1 / ratio.point:.2f} [{1 / ratio.high:.2f}, {1 / ratio.low:.2f}] faster than plain"
        f" {file_format}/int8 of the unpruned model, wanted ×{wanted:g}: {'ok' if fast else 'MISSED'}",
        flush=True,
    )
    scheme = axis.partition("/")[2]
    whole = counted(file_of(plain, store, "tflite/int8")[1])
    left = {of: counted(file_of(manifest, store, f"tflite/{of}")[1]) for of in dict.fromkeys((scheme, "int8"))}
    told = ", ".join(f"tflite/{of} {n / 1e6:.2f} M (×{whole / n:.2f} less)" for of, n in left.items())
    print(f"  {CORE}, instructions: plain tflite/int8 {whole / 1e6:.2f} M, {told}", flush=True)
    ours, control = right(recipe, manifest, store, axis)
    gained, lost, count = int((ours & ~control).sum()), int((control & ~ours).sum()), len(ours)
    drop = (lost - gained) / count
    half = Z_95 * ((gained + lost) / count - drop**2) ** 0.5 / count**0.5
    accurate = drop <= MAX_DROP
    print(
        f"  {100 * ours.mean():.2f} of {count:,} test samples, control {100 * control.mean():.2f}:"
        f" lost {100 * drop:.2f} [{100 * (drop - half):.2f}, {100 * (drop + half):.2f}] points,"
        f" wanted at most {100 * MAX_DROP:g}: {'ok' if accurate else 'MISSED'}",
        flush=True,
    )
    return in_time and fast and accurate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    options = parser.parse_args()
    options.work = options.work.resolve()
    fine = [judged(name, options) for name in options.networks]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
