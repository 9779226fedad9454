"""Compare the methods of `calibration` in int8: what each costs at export, and what it loses, in both formats.

MLPerf Tiny's ResNet-8 on the first 2,000 test images of CIFAR-10, with accuracy; keyword spotting and visual wake words
on 2,000 made-up inputs (see quality.py), by how often they name Keras' class. Times are the CPU's of one conversion, in
turns, the fastest of `--rounds`.

Exit status 1 unless auto takes at most three times the default's time, and its outputs are never further from Keras'
than the default's by more than a tenth (root mean square).

    python benchmarks/ranges.py --data DIR [--work DIR] [--rounds 3]      # contents of DIR: see public_models.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from public_models import TinyModel, cifar10, tiny_model_file
from quality import calibrated_range, noise, photographs, towards_all_classes
from resumable import DEFAULT_WORK

CALIBRATION, TEST, MOST_TIMES, MOST_ERROR = 256, 2_000, 3.0, 1.1
METHODS = ("min_max", "percentile", "mse", "auto")  # the default is the first


@dataclass
class Row:
    """Hold what one method gives: seconds of each conversion, the file's outputs, and what auto says."""

    seconds: list[float] = field(default_factory=list)
    outputs: Any = None
    said: str = ""


def networks(data: Path, work: Path) -> Iterator[tuple[str, Any, Any, Any, Any]]:
    """Yield name, model, calibration samples, test samples, and labels if there are any."""
    import numpy as np

    from stages.load import load_model

    def model_of(name: TinyModel) -> Any:
        path = work / f"{name}.h5"
        path.write_bytes(tiny_model_file(data, name, "h5"))
        return load_model(path).model

    x_train, _ = cifar10(data, "train")
    x, y = cifar10(data, "test")
    calibration, test = (images.astype(np.float32) / 128 - 1 for images in (x_train[:CALIBRATION], x[:TEST]))
    yield "resnet8", model_of("image_classification"), calibration, test, y[:TEST]
    for name in ("keyword_spotting", "visual_wake_words"):
        model = model_of(name)
        low, high = calibrated_range(tiny_model_file(data, name, "tflite"))
        count = CALIBRATION + TEST
        start = (
            photographs(data, low, high, count)
            if name == "visual_wake_words"
            else noise(model.input_shape[1:], low, high, count)
        )
        yield name, model, start[:CALIBRATION], towards_all_classes(model, start[CALIBRATION:], low, high), None


def converted(model: Any, target: str, method: str, calibration: Any) -> tuple[bytes, str]:
    from pipeline.records.schemes import Quantization
    from stages.formats.calibration.choice import RangeChoice
    from stages.formats.onnx.convert import convert_onnx
    from stages.formats.tflite.convert import convert_tflite

    how, choices = Quantization.model_validate({"scheme": "int8", "calibration": method}), list[RangeChoice]()
    if target == "tflite":
        data = convert_tflite(model, how, calibration=calibration, chose=choices.append)
    else:
        data = convert_onnx(model, how, calibration=calibration, chose=choices.append)
    return data, choices[0].said if choices else ""


def measured(model: Any, target: str, calibration: Any, test: Any, rounds: int) -> dict[str, Row]:
    from stages.formats.onnx.session import load_onnx
    from stages.formats.tflite.session import load_tflite

    rows = {method: Row() for method in METHODS}
    converted(model, target, "min_max", calibration)  # imports, and the first trace
    for round_ in range(rounds):
        for method, row in rows.items():
            start = time.process_time()
            data, row.said = converted(model, target, method, calibration)
            row.seconds.append(time.process_time() - start)
            if not round_:
                loaded = load_tflite(data) if target == "tflite" else load_onnx(data)
                (row.outputs,) = loaded.run({loaded.inputs[0].name: test}).values()
    return rows


def compared(name: str, model: Any, calibration: Any, test: Any, labels: Any, rounds: int) -> bool:
    """Print the rows of one network; return whether auto keeps its bounds."""
    import numpy as np

    expected = np.asarray(model.predict(test, verbose=0))
    own = "" if labels is None else f", Keras' accuracy {(expected.argmax(1) == labels).mean():.2%}"
    print(f"\n{name}: {len(test)} inputs{own}")
    fine = True
    for target in ("tflite", "onnx"):
        rows = measured(model, target, calibration, test, rounds)
        base, losses = min(rows["min_max"].seconds), dict[str, float]()
        for method, row in rows.items():
            losses[method] = float(np.sqrt(np.mean(np.square(row.outputs - expected))))
            accuracy = "" if labels is None else f"accuracy {(row.outputs.argmax(1) == labels).mean():.2%}  "
            agreement = (row.outputs.argmax(1) == expected.argmax(1)).mean()
            print(
                f"  {target:6} {method:10} {min(row.seconds):5.2f} s, {min(row.seconds) / base:4.2f} times"
                f"   {accuracy}names Keras' class {agreement:.2%}  rms error {losses[method]:.4f}  {row.said}",
                flush=True,
            )
        fine &= min(rows["auto"].seconds) <= MOST_TIMES * base and losses["auto"] <= MOST_ERROR * losses["min_max"]
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK / "ranges")
    parser.add_argument("--rounds", type=int, default=3, help="of conversions")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    fine = [compared(*network, options.rounds) for network in networks(options.data, options.work.resolve())]
    print("auto keeps its bounds" if all(fine) else "MISSED: auto takes too long, or loses more than the default")
    return 0 if all(fine) else 1


if __name__ == "__main__":
    raise SystemExit(main())
