"""Measure what int8 loses: nine networks, by each runtime's own quantizer alone and by this project.

For each network and way: how often the int8 file names the class that the float32 Keras model names, the accuracy where
there are labels (MLPerf Tiny's ResNet-8 on CIFAR-10's 10,000 test images; what the others see: int8_networks.py), and
the error at the outputs before a closing softmax in dB. Ways: TensorFlow's converter, ai-edge-quantizer's static int8
of the converter's float32 file, ONNX Runtime's quantizer with its defaults on our float32 ONNX file, our TFLite and
ONNX files by default and tuned (`calibration: auto`, `rounding: adaptive`), and the vendor's own file where there is
one.

Exit status 1, and MISSED, unless in each network our better file agrees with float32 at least as often as ONNX
Runtime's and the vendor's do (as far as 95 % intervals of the difference can tell), and it disagrees at most half as
often as TensorFlow's converter's. Anomaly detection has no classes: its errors in dB are compared.

    python benchmarks/int8_losses.py --data DIR [--work DIR] [--only NAME …]      # DIR: see public_models.py
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from fresh import ROOT
from int8_networks import Case, networks
from public_models import tiny_model_file
from resumable import DEFAULT_WORK, Results

OURS = ("ours in TFLite", "ours in ONNX", "tuned in TFLite", "tuned in ONNX")
WAYS = ("converter", "ai-edge-quantizer", "onnxruntime", *OURS, "vendor")
VENDOR = {"resnet8": "image_classification"}
NOTHING = 1e-12
Outputs = Any  # (N, outputs), float32


def converter(case: Case) -> Outputs:
    """Run what TensorFlow's converter makes by its own documentation."""
    import tensorflow as tf

    made = tf.lite.TFLiteConverter.from_keras_model(case.model)
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    made.representative_dataset = lambda: ([one[None]] for one in case.calibration)
    made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return run_tflite(bytes(made.convert()), case.x)


def edge_quantizer(case: Case) -> Outputs:
    """Run ai-edge-quantizer's static int8 of a float32 file, calibrated by itself."""
    from ai_edge_quantizer import Quantizer, recipe

    from stages.formats.tflite.convert import convert_tflite

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.tflite"
        path.write_bytes(convert_tflite(case.model, "float32"))
        quantizer = Quantizer(str(path), recipe.static_wi8_ai8())
        (name,) = case.model.input_names
        samples = {"serving_default": [{name: one[None]} for one in case.calibration]}
        with redirect_stdout(io.StringIO()):
            calibrated = quantizer.calibrate(samples)
            made = bytes(quantizer.quantize(calibrated).quantized_model)
    return run_tflite(made, case.x)


def onnxruntime(case: Case) -> Outputs:
    """Run what ONNX Runtime's quantizer makes of a float32 file by its defaults, with its own preparation."""
    from stages.formats.onnx.convert import convert_onnx

    data = convert_onnx(case.model, "float32")
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            self.left = iter(case.calibration)

        def get_next(self) -> dict[str, Any] | None:
            one = next(self.left, None)
            return None if one is None else {case.model.input_names[0]: one[None]}

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        source, prepared, target = (Path(folder) / name for name in ("a.onnx", "b.onnx", "c.onnx"))
        source.write_bytes(data)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(prepared, target, Reader())
        return run_onnx(target.read_bytes(), case.x)


def ours(case: Case, file_format: str, *, tuned: bool) -> Outputs:
    """Run the file that a recipe makes: quantize, then export."""
    from pipeline.records.schemes import Quantization
    from stages.formats.onnx.convert import convert_onnx
    from stages.formats.onnx.overrides import RANGE
    from stages.formats.rounding import round_model
    from stages.formats.tflite.convert import convert_tflite
    from stages.formats.tflite.ranges import LEVELS
    from stages.keras.equalizing.equalize import equalized
    from stages.keras.regression.grids import Grid

    how = Quantization(scheme="int8")
    if tuned:
        how = Quantization(scheme="int8", calibration="auto", rounding="adaptive")
    model = equalized(case.model, [case.calibration]).model
    if tuned:
        grid = Grid(RANGE if file_format == "onnx" else LEVELS, per_channel=True)
        with tempfile.TemporaryDirectory() as folder:
            model = round_model(model, how, [case.calibration], grid, Path(folder)).model
    if file_format == "onnx":
        return run_onnx(convert_onnx(model, how, calibration=case.calibration), case.x)
    return run_tflite(convert_tflite(model, how, calibration=case.calibration), case.x)


def run_tflite(data: bytes, x: Any) -> Outputs:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    return _each(x, lambda one: _invoked(interpreter, given, made, one))


def _invoked(interpreter: Any, given: Any, made: Any, one: Any) -> Any:
    interpreter.set_tensor(given["index"], _stored(given, one[None]))
    interpreter.invoke()
    values = interpreter.get_tensor(made["index"])[0]
    scale, zero = made["quantization"]
    return (values.astype("float32") - zero) * scale if scale else values


def _stored(details: Any, values: Any) -> Any:
    """Return values in the type of an input: ai-edge-quantizer makes it int8."""
    import numpy as np

    scale, zero = details["quantization"]
    if not scale:
        return values
    return np.clip(np.round(values / scale + zero), -128, 127).astype(details["dtype"])


def run_onnx(data: bytes, x: Any) -> Outputs:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return _each(x, lambda one: session.run(None, {name: one[None]})[0][0])


def _each(x: Any, run: Callable[[Any], Any]) -> Outputs:
    import numpy as np

    return np.stack([run(one) for one in x])


def row_of(name: str, way: str, data: Path, work: Path) -> dict[str, Any]:
    """Return for one network and way: which samples agree, the accuracy, the error at the outputs, and seconds."""
    import numpy as np

    from stages.keras.tensorflow import tensorflow_action

    with tensorflow_action(0, 2):
        case = networks(data, work)[name]()
        wanted = np.asarray(case.model.predict(case.x, batch_size=250, verbose=0))
        began = time.process_time()
        if way == "vendor":
            found = _vendor(name, data, case)
        elif way in OURS:
            found = ours(case, "onnx" if "ONNX" in way else "tflite", tuned=way.startswith("tuned"))
        else:
            found = {"converter": converter, "ai-edge-quantizer": edge_quantizer, "onnxruntime": onnxruntime}[way](case)
    agree = found.argmax(1) == wanted.argmax(1)
    noise = float(np.square(_sums(found) - _sums(wanted)).mean()) + NOTHING
    return {
        "agree": np.packbits(agree).tobytes().hex(),
        "samples": len(agree),
        "classes": name != "anomaly_detection",
        "float_accuracy": None if case.y is None else float((wanted.argmax(1) == case.y).mean()),
        "accuracy": None if case.y is None else float((found.argmax(1) == case.y).mean()),
        "db": 10 * float(np.log10(_sums(wanted).var() / noise)),
        "cpu_s": time.process_time() - began,
    }


def _sums(outputs: Any) -> Any:
    """Return what a softmax was applied to, but for an offset of each sample; other outputs as they are."""
    import numpy as np

    if outputs.min() < 0 or not np.allclose(outputs.sum(axis=1), 1, atol=0.05):
        return outputs
    logs = np.log(np.clip(outputs, 1 / 512, 1))  # int8 probabilities have steps of 1/256
    return logs - logs.mean(axis=1, keepdims=True)


def _vendor(name: str, data: Path, case: Case) -> Outputs:
    from stages.formats.tflite.session import load_tflite

    file = tiny_model_file(data, VENDOR.get(name, name), "tflite")  # type: ignore[arg-type]  # one of the four
    loaded = load_tflite(file)
    (made,) = loaded.run({loaded.inputs[0].name: case.x}).values()
    return made


def agreeing(row: Mapping[str, Any]) -> Any:
    import numpy as np

    return np.unpackbits(np.frombuffer(bytes.fromhex(row["agree"]), np.uint8))[: row["samples"]].astype(float)


def verdicts(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, bool]]:
    """Yield what was wanted of our rows, and whether it is so."""
    ours_here = [rows[way] for way in OURS]
    if not ours_here[0]["classes"]:
        best_db = max(row["db"] for row in ours_here)
        for other in ("onnxruntime", "vendor"):
            yield f"error in dB, {other}'s: {best_db:.1f}, {rows[other]['db']:.1f}", best_db >= rows[other]["db"]
        yield f"error in dB, the converter's + 6: {best_db:.1f}", best_db >= rows["converter"]["db"] + 6
        return
    best = max(ours_here, key=lambda row: float(agreeing(row).mean()))
    for other in ("onnxruntime", "vendor"):
        if other in rows:
            differ = agreeing(best) - agreeing(rows[other])
            half = 1.96 * differ.std() / len(differ) ** 0.5
            yield f"agrees as often as {other}: {differ.mean():+.2%} ± {half:.2%}", differ.mean() + half >= 0
    lost, theirs = (1 - agreeing(row).mean() for row in (best, rows["converter"]))
    yield f"disagrees at most half as often as the converter: {lost:.2%}, {theirs:.2%}", lost <= theirs / 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK / "int8")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.one:
        name, way = options.one
        print(json.dumps(row_of(name, way, options.data, options.work)))
        return 0
    results, missed = Results(options.work, Path(__file__), ROOT / "benchmarks" / "int8_networks.py"), False
    print(f"{'network':20}{'way':19}{'agree':>8}{'accuracy':>10}{'float32':>9}{'dB':>7}{'CPU s':>7}", flush=True)
    for name in networks(options.data, options.work):
        if options.only and name not in options.only:
            continue
        vendored = name in ("resnet8", "keyword_spotting", "visual_wake_words", "anomaly_detection")
        ways = [way for way in options.ways if vendored or way != "vendor"]
        shared = ["--data", str(options.data), "--work", str(options.work)]
        cases = ({"name": name, "way": way} for way in ways)
        parts = ((case, [name, str(case["way"]), *shared]) for case in cases)
        rows = {}
        for way, row in zip(ways, results.each_apart(__file__, parts), strict=True):
            if isinstance(row, str):
                print(f"{name:20}{way:19}{row[-200:]!r}", flush=True)
                continue
            rows[way] = row
            accuracies = (row["accuracy"], row["float_accuracy"])
            told = "".join(
                f"{'–' if one is None else format(one, '.2%'):>{w}}" for one, w in zip(accuracies, (10, 9), strict=True)
            )
            print(
                f"{name:20}{way:19}{agreeing(row).mean():>8.2%}{told}{row['db']:>7.1f}{row['cpu_s']:>7.0f}", flush=True
            )
        if set(WAYS[:-1]) <= rows.keys():
            for what, fine in verdicts(rows):
                missed |= not fine
                print(f"  {what}: {'ok' if fine else 'MISSED'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
