"""Run the demo as a plain script: the library's functions called one after the other, models kept in memory.

No engine, no store, no keys, no manifest, no checkpoints: what a user would write who knows the functions. It does the
work of a cold `secateur run configs/demo.yaml` and writes the files that `secateur export` copies out. `overhead.py`
compares the two.

    python benchmarks/plain_demo.py OUT [--recipe configs/demo.yaml] [--set K=V]…
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.contracts.events import ActionEvents, silent
from pipeline.data import DataSource, Split, data_source
from pipeline.recipe.recipe import Recipe
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.facts import KerasFacts
from pipeline.records.keys import digest_of_bytes
from pipeline.records.schemes import Scheme
from stages.benchmark.summary import metrics_of, ratio_of
from stages.devices.rounds import Subject, measure_rounds
from stages.devices.target import Sampling
from stages.export.config import CommonConfig
from stages.finetune.config import FinetuneConfig
from stages.finetune.training import fine_tune
from stages.formats.check import runtime_difference
from stages.formats.metadata import metadata_of
from stages.formats.onnx.convert import convert_onnx, onnx_facts
from stages.formats.onnx.settings import ONNXSettings
from stages.formats.registry import formats, load_exported
from stages.formats.tflite.convert import convert_tflite, tflite_facts
from stages.keras.normal_form import (
    MEDIA_TYPE,
    MODEL_FILE,
    copy_model,
    encode_model,
    keras_facts,
    random_inputs,
)
from stages.keras.stripping.layers import strip_model
from stages.keras.tensorflow import tensorflow_action
from stages.load import load_model
from stages.prune.pruning import prune_model
from stages.quantize.calibration import doubts_about
from stages.samples.checks import require_fit
from stages.strip.stage import output_difference
from stages.verify import metrics
from stages.verify.adversarial import adversarial_inputs
from stages.verify.compare import parity_row
from stages.verify.config import VerifyConfig
from stages.verify.evaluate import require_finite
from stages.verify.limits import REAL, violation
from stages.verify.predict import predict, run_keras

RECIPE = Path(__file__).resolve().parent.parent / "configs" / "demo.yaml"
BATCH = 256


@dataclass(frozen=True)
class Deployable:
    """Hold a Keras model to export, its file and facts, and the digest that exports carry as metadata."""

    model: Any
    data: bytes
    facts: KerasFacts
    digest: str


@dataclass(frozen=True)
class Export:
    """Hold an exported file at `path`, of format `FORMAT` in scheme `SCHEME`."""

    format: str
    scheme: Scheme
    path: Path


def say(what: str, **figures: float) -> None:
    print(f"{what:24}" + "".join(f"  {name} {value:.6g}" for name, value in figures.items()), flush=True)


def no_layer(sample: int) -> None:
    """Return no layer: here nobody looks for the one where a number stopped being finite."""


def evaluate(name: str, model: Any, test: Split) -> None:
    facts = keras_facts(model)
    require_fit(test, facts)
    outputs = predict(model, test, BATCH, lambda *_: None)
    require_finite(outputs, no_layer)
    found = metrics.evaluate(outputs, test.y, test.kind, metrics.metrics_for(test.kind, None))
    low, high = found.intervals["accuracy"]
    say(f"evaluate {name}", **found.metrics, low=low, high=high, params=facts.params, macs=facts.macs)


def fine_tuned(name: str, model: Any, config: FinetuneConfig, data: DataSource, seed: int) -> Any:
    """Train `model` and return it."""
    train, validation = data.split("train"), data.split("validation")
    for split in (train, validation):
        require_fit(split, keras_facts(model))
    result = fine_tune(model, config, train, validation, seed)
    say(f"fine-tune {name}", validation_loss=result.validation_loss, best_epoch=result.best_epoch)
    return result.model


def stripped(model: Any) -> tuple[Any, bool]:
    """Return the model without training-only parts, and whether there were any."""
    result = strip_model(model)
    difference = output_difference(model, result.model)
    say("strip", removed=len(result.removed), difference=difference)
    return result.model, bool(result.removed)


def deployable(model: Any) -> Deployable:
    data, facts = encode_model(model), keras_facts(model)
    file = FileRef(name=MODEL_FILE, digest=digest_of_bytes(data), size=len(data), media_type=MEDIA_TYPE)
    return Deployable(model, data, facts, Artifact(files=(file,), facts=facts).digest)


def exported(
    source: Deployable, target: str, scheme: Scheme, folder: Path, config: CommonConfig, io: Any, calibration: Any
) -> Export:
    """Convert, write, load and run one file once, compared with Keras."""
    metadata = metadata_of(config, source.digest, scheme, {"tflite": "tensorflow.lite", "onnx": "tf2onnx"}[target])
    if target == "tflite":
        data = convert_tflite(source.model, scheme, io, calibration, metadata=metadata)
    else:
        data = convert_onnx(source.model, scheme, config.of(ONNXSettings).opset, calibration, metadata=metadata)
    samples = [calibration[:1]] if calibration is not None else random_inputs(source.model, samples=1, seed=0)
    loaded = load_exported(formats()[target].kind, data)
    difference = runtime_difference(source.model, loaded, samples)
    facts = (tflite_facts if target == "tflite" else onnx_facts)(data, scheme, loaded.inputs, loaded.outputs)
    path = folder / target / scheme / f"model.{target}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    say(f"export {target}/{scheme}", size=len(data), difference=difference, operators=sum(facts.operators.values()))
    return Export(target, scheme, path)


def exports(
    source: Deployable, settings: Mapping[str, Any], schemes: tuple[Scheme, ...], folder: Path, data: DataSource
) -> Iterator[Export]:
    """Yield every format in every scheme."""
    calibration = None
    if "int8" in schemes:
        calibration = data.split("calibration").inputs()
        for doubt in doubts_about(calibration):
            print(f"warning: {doubt}")
    for target in settings["export"].formats:
        for scheme in schemes:
            io, samples = (settings["quantize"].io, calibration) if scheme == "int8" else ("float32", None)
            config = settings["export"].model_copy(update={"preprocess": data.spec.preprocess})
            yield exported(source, target, scheme, folder, config, io, samples)


def verify(export: Export, source: Deployable, test: Split, config: VerifyConfig, threads: int) -> None:
    """Compare the file with the Keras model on the whole test split."""
    import numpy as np

    require_fit(test, source.facts)
    reference = predict(source.model, test, BATCH, lambda *_: None)
    loaded = load_exported(formats()[export.format].kind, export.path.read_bytes(), threads)
    name, output = source.facts.inputs[0].name, source.facts.outputs[0].name
    actual = np.concatenate([loaded.run({name: inputs})[output] for inputs, _ in test.batches(BATCH)])
    require_finite(reference, no_layer)
    require_finite(actual, no_layer)
    picked = np.linspace(0, len(test) - 1, min(config.samples, len(test))).astype(np.int64)
    made_up = adversarial_inputs(source.facts.inputs, {name: test.take(picked)[0]})
    rows = [parity_row(REAL, output, reference[picked], actual[picked], classes=True)]
    for inputs, arrays in made_up.items():
        wanted = run_keras(source.model, [arrays[name]])[0]
        rows.append(parity_row(inputs, output, wanted, loaded.run(arrays)[output], classes=True))
    for row in rows:
        violated = violation(row, config.tolerances.of(export.scheme))
        if violated is not None:
            raise SystemExit(f"{export.format}/{export.scheme} on {row.inputs} inputs: {violated.said}")
    names, logits = metrics.metrics_for(test.kind, None), metrics.are_logits(reference, test.kind)
    found = metrics.evaluate(actual, test.y, test.kind, names, logits=logits)
    before = metrics.evaluate(reference, test.y, test.kind, ("accuracy",), logits=logits)
    drop = before.metrics["accuracy"] - found.metrics["accuracy"]
    say(
        f"verify {export.format}/{export.scheme}",
        **found.metrics,
        low=found.intervals["accuracy"][0],
        drop=drop,
        max_abs_diff=rows[0].max_abs_diff,
        mean_abs_diff=rows[0].mean_abs_diff,
        cosine=rows[0].cosine,
        top1_agreement=rows[0].top1_agreement or 0.0,
        worst_sample=float(picked[rows[0].worst_sample]),
    )
    if config.max_accuracy_drop is not None and drop > config.max_accuracy_drop:
        raise SystemExit(f"{export.format}/{export.scheme}: the accuracy is {drop:.4f} below the reference's")


def benchmark(export: Export, baseline: Export, config: Any, scratch: Path) -> None:
    """Measure latency on every target, in turns with the baseline of the same format."""
    for target in config.targets:
        name = f"{export.format}/{export.scheme}@{target}"
        work_dir = scratch / name
        work_dir.mkdir(parents=True)
        rounds = measure_rounds(
            {"baseline": Subject(baseline.path, "baseline"), "candidate": Subject(export.path, name)},
            target,
            config.rounds,
            Sampling(seconds=config.seconds, threads=config.threads),
            work_dir,
            ActionEvents(name, silent),
        )
        ratio = ratio_of(rounds)
        found = metrics_of(rounds, ratio, export.path.stat().st_size)
        say(f"benchmark {name}", p50_ms=found["latency_p50_ms"], ratio=ratio.point, low=ratio.low, high=ratio.high)


def demo(recipe: Recipe, out: Path, scratch: Path) -> None:
    settings: dict[str, Any] = {step.stage: step.config for step in recipe.steps}
    if recipe.data is None or not isinstance(recipe.model, Path):
        raise SystemExit("the plain script knows recipes with data and a model file, like the demo's")
    data = data_source(recipe.data, recipe.folder, recipe.seed)
    test = data.split("test")

    source = load_model(recipe.folder / recipe.model).model
    evaluate("source", source, test)

    pruned = prune_model(source, settings["prune"], seed=recipe.seed)
    say("prune", removed=pruned.report.removed_share, equivalence_error=pruned.report.equivalence_error)
    evaluate("pruned", pruned.model, test)

    tuned = fine_tuned("pruned", pruned.model, settings["finetune"], data, recipe.seed)
    evaluate("fine-tuned", tuned, test)
    if recipe.control:
        control = fine_tuned("control", copy_model(source), settings["finetune"], data, recipe.seed)
        evaluate("control", control, test)

    final, changed = stripped(tuned)
    if changed:  # otherwise it is the model that was just evaluated
        evaluate("stripped", final, test)

    candidate, original = deployable(final), deployable(source)
    keras_file = out / "keras" / "float32" / MODEL_FILE
    keras_file.parent.mkdir(parents=True, exist_ok=True)
    keras_file.write_bytes(candidate.data)
    files = list(exports(candidate, settings, tuple(settings["quantize"].variants), out, data))
    for export in files:
        verify(export, candidate, test, settings["verify"], recipe.threads)
    baselines = {one.format: one for one in exports(original, settings, ("float32",), scratch, data)}
    for export in files:
        benchmark(export, baselines[export.format], settings["benchmark"], scratch)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where the files go, as FORMAT/SCHEME/name")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="as `secateur run --set`")
    options = parser.parse_args()
    recipe = Recipe.load(options.recipe, tuple(options.set))
    with (
        tempfile.TemporaryDirectory(prefix="secateur-plain-") as scratch,
        tensorflow_action(recipe.seed, recipe.threads),
    ):
        demo(recipe, options.out, Path(scratch))
    return 0


if __name__ == "__main__":
    sys.exit(main())
