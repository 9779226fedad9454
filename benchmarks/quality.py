"""Measure quality: each scheme's cost in accuracy, and its gain in size and latency, in both runtimes.

MLPerf Tiny's ResNet-8 on the first 2,000 test images of CIFAR-10 and the demo's network, unpruned, each through one
recipe (kept in `--work`: a killed run resumes). ResNet-8 is compared with the vendor's own int8 file. Then keyword
spotting and visual wake words: how often our int8 file and the vendor's predict the same class as Keras. Their data is
in no registry: visual wake words sees CIFAR-10's images enlarged to 96×96, keyword spotting noise, both in the range
that the vendor calibrated. Some calibrate ours unchanged; the others are moved towards all classes, and are the inputs
of both files. So these two figures are agreements, not accuracies.

Exit status 1 unless int8 in TFLite loses no more of ResNet-8's accuracy than the vendor's file, and agrees with Keras
at least as often as the vendor's on the other two (as far as the 95 % interval of the difference can tell).

    python benchmarks/quality.py --data DIR [--work DIR] [--rounds 5]      # contents of DIR: see public_models.py
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fresh import ROOT
from public_models import TinyModel, cifar10, tiny_model_file
from resumable import DEFAULT_WORK

TEST_IMAGES, TRAIN_IMAGES = 2_000, 1_000
AGREEMENT_INPUTS, CALIBRATION_INPUTS, STEPS, BATCH = 3_000, 600, 8, 56
RECIPE = """\
name: quality-{name}
model: {model}
data:
  source: npz
  path: {data}
  preprocess: {preprocess}
  calibration: {{from: train, take: 256}}
  test: test
stages:
  - load
  - quantize:
      schemes:
        - float32
        - float16
        - weight_only
        - dynamic
        - int8
        - int8-tensor: {{scheme: int8, granularity: per_tensor}}
        - int8-s8: {{scheme: int8, activations: signed}}
        - int8-percentile: {{scheme: int8, calibration: percentile, percentile: 99.99}}
        - int8-entropy: {{scheme: int8, calibration: entropy}}
        - int8-mse: {{scheme: int8, calibration: mse}}
        - int8-auto: {{scheme: int8, calibration: auto}}
        - int16x8
        - int4_weight_only
        - int4_dynamic
        - int4-blocks: {{scheme: int4_dynamic, granularity: per_block}}
  - export: {{formats: [tflite, onnx], unsupported: skip}}
  - verify: {{tolerances: {{int8: {{min_cosine: null}}}}}}    # the worst are to be told too
  - benchmark: {{targets: [cpu], rounds: {rounds}}}
"""


@dataclass(frozen=True)
class Network:
    """Describe a network for its recipe."""

    name: str
    model: Path
    data: Path
    preprocess: str


def resnet8(data: Path, work: Path) -> Network:
    import numpy as np

    model, samples = work / "resnet8.h5", work / "cifar10.npz"
    model.write_bytes(tiny_model_file(data, "image_classification", "h5"))
    if not samples.exists():
        (x, y), (x_test, y_test) = cifar10(data, "train"), cifar10(data, "test")
        np.savez(
            samples,
            x_train=x[:TRAIN_IMAGES],
            y_train=y[:TRAIN_IMAGES],
            x_test=x_test[:TEST_IMAGES],
            y_test=y_test[:TEST_IMAGES],
        )
    return Network("resnet8", model, samples, "{scale: 0.0078125, offset: -1.0}")


def demo() -> Network:
    assets = ROOT / "configs" / "assets"
    preprocess = "{scale: 0.00784313725490196, offset: -1.0}"
    return Network("demo", assets / "mini_xception.keras", assets / "fashion_mnist.npz", preprocess)


def through_the_pipeline(network: Network, work: Path, rounds: int) -> Any:
    """Run the network's recipe, print its table and return the manifest."""
    from pipeline import Recipe, run
    from pipeline.reports.table import table

    recipe = work / f"{network.name}.yaml"
    fields = {"model": network.model, "data": network.data, "preprocess": network.preprocess}
    recipe.write_text(RECIPE.format(name=network.name, rounds=rounds, **fields))
    manifest = run(Recipe.load(recipe), store=work / "store")
    print(f"\n{network.name}\n{table(manifest)}\n", flush=True)
    return manifest


def vendor_accuracy(data: Path, samples: Path) -> float:
    """Return the accuracy of the vendor's int8 ResNet-8, on the same test images."""
    import numpy as np

    from stages.formats.tflite.session import load_tflite

    with np.load(samples) as arrays:
        x, y = arrays["x_test"].astype(np.float32) / 128 - 1, arrays["y_test"]
    return float((_outputs(load_tflite(tiny_model_file(data, "image_classification", "tflite")), x) == y).mean())


def vendor_latency(manifest: Any, data: Path, work: Path, rounds: int) -> str:
    """Measure the latency of the same file, in turns with our float32 and in turns with our int8."""
    from pipeline.contracts.events import ActionEvents, silent
    from pipeline.store import Store
    from stages.benchmark.summary import ratio_of
    from stages.devices.rounds import Subject, measure_rounds
    from stages.devices.target import Sampling

    vendor = work / "vendor.tflite"
    vendor.write_bytes(tiny_model_file(data, "image_classification", "tflite"))
    told = []
    for scheme in ("float32", "int8"):
        entry = next(e for e in manifest.stages if e.id == f"export:tflite/{scheme}")
        ours = Store(work / "store").blobs.path(entry.outputs[0].files[0].digest)
        with tempfile.TemporaryDirectory() as folder:
            found = measure_rounds(
                {"baseline": Subject(ours, scheme), "candidate": Subject(vendor, "vendor")},
                "cpu",
                rounds,
                Sampling(seconds=0.1, threads=1),
                Path(folder),
                ActionEvents("vendor", silent),
            )
        ratio = ratio_of(found)
        told.append(f"×{ratio.point:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] of our {scheme}'s time")
    return ", ".join(told)


def _outputs(loaded: Any, x: Any) -> Any:
    """Return the class that a file predicts for each sample; the vendor's have one input and one output."""
    (output,) = loaded.run({loaded.inputs[0].name: x}).values()
    return output.argmax(1)


def photographs(data: Path, low: float, high: float, count: int) -> Any:
    """Return CIFAR-10's test images enlarged to 96×96, black at `low` and white at `high`."""
    import numpy as np

    x, _ = cifar10(data, "test")
    scaled = low + x[:count].astype(np.float32) / 255 * np.float32(high - low)
    return np.kron(scaled, np.ones((1, 3, 3, 1), np.float32))


def noise(shape: tuple[int, ...], low: float, high: float, count: int) -> Any:
    """Return noise that is smooth along the first axis, most of it between `low` and `high`."""
    import numpy as np

    rough = np.random.default_rng(1).normal((low + high) / 2, (high - low) / 6, (count, *shape)).astype(np.float32)
    return (rough + np.roll(rough, 1, axis=1) + np.roll(rough, 2, axis=1)) / 3


def towards_all_classes(model: Any, x: Any, low: float, high: float) -> Any:
    """Move samples up the gradient of a class drawn for each, some far and some hardly.

    Unchanged, these are one class to the network, and agreement on them would say nothing.
    """
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    wanted = rng.integers(0, model.output_shape[-1], len(x))
    moved = x.copy()

    @tf.function  # type: ignore[untyped-decorator, unused-ignore]
    def nearer(part: Any, classes: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(part)
            outputs = model(part, training=False)
            loss = tf.reduce_sum(tf.keras.losses.sparse_categorical_crossentropy(classes, outputs))
        return tf.clip_by_value(part - (high - low) / 40 * tf.sign(tape.gradient(loss, part)), low, high)

    for begin in range(0, len(x), BATCH):
        part, classes = tf.constant(x[begin : begin + BATCH]), tf.constant(wanted[begin : begin + BATCH])
        for _ in range(STEPS):
            part = nearer(part, classes)
        moved[begin : begin + BATCH] = part.numpy()
    share = rng.uniform(0, 1, (len(x), *[1] * (x.ndim - 1))).astype(np.float32)
    return share * moved + (1 - share) * x


def calibrated_range(file: bytes) -> tuple[float, float]:
    """Return the smallest and the largest input that an int8 file distinguishes, from its own first 8-bit tensor."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=file)
    (entry,) = interpreter.get_input_details()
    details = [entry, *interpreter.get_tensor_details()]
    inside = next(d for d in details if d["dtype"] is np.int8 and tuple(d["shape"]) == tuple(entry["shape"]))
    scale, zero = inside["quantization"]
    return scale * (-128 - zero), scale * (127 - zero)


def agreement(name: TinyModel, data: Path, work: Path) -> bool:
    """Compare our int8 file and the vendor's with Keras; return whether ours agrees at least as often."""
    import numpy as np

    from stages.formats.tflite.convert import convert_tflite
    from stages.formats.tflite.session import load_tflite
    from stages.load import load_model

    path, vendor = work / f"{name}.h5", tiny_model_file(data, name, "tflite")
    path.write_bytes(tiny_model_file(data, name, "h5"))
    model = load_model(path).model
    low, high = calibrated_range(vendor)
    count = AGREEMENT_INPUTS + CALIBRATION_INPUTS
    start = (
        photographs(data, low, high, count)
        if name == "visual_wake_words"
        else noise(model.input_shape[1:], low, high, count)
    )
    calibration, x = start[:CALIBRATION_INPUTS], towards_all_classes(model, start[CALIBRATION_INPUTS:], low, high)
    expected = np.asarray(model.predict(x, verbose=0)).argmax(1)
    same = {
        whose: _outputs(load_tflite(file), x) == expected
        for whose, file in (
            ("ours", convert_tflite(model, "int8", calibration=calibration)),
            ("the vendor's", vendor),
        )
    }
    counts = np.bincount(expected, minlength=model.output_shape[-1])
    print(
        f"{name}: {len(x)} inputs between {x.min():.2f} and {x.max():.2f} (the vendor's range: {low:.2f}, {high:.2f})"
    )
    print(f"  Keras' classes {counts.tolist()}")
    for whose, right in same.items():
        print(f"  {whose:13} int8 names Keras' class for {right.mean():.2%}")
    differ = same["ours"].astype(int) - same["the vendor's"]
    mean, half = float(differ.mean()), 1.96 * math.sqrt(float((differ**2).mean()) / len(differ))
    print(f"  ours less the vendor's: {mean:+.2%} ± {half:.2%}", flush=True)
    return mean + half >= 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK / "quality")
    parser.add_argument("--rounds", type=int, default=5, help="of each latency")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    work = options.work.resolve()
    network = resnet8(options.data, work)
    manifest = through_the_pipeline(network, work, options.rounds)
    vendor, ours = vendor_accuracy(options.data, network.data), manifest.metrics["tflite/int8.accuracy"]
    size = len(tiny_model_file(options.data, "image_classification", "tflite"))
    print(f"the vendor's int8: {vendor:.2%}, {size / 1e3:.1f} kB; ours: {ours:.2%}")
    print(f"  latency {vendor_latency(manifest, options.data, work, options.rounds)}\n", flush=True)
    well = {"resnet8": ours >= vendor}
    for name in ("keyword_spotting", "visual_wake_words"):
        well[name] = agreement(name, options.data, work)
    through_the_pipeline(demo(), work, options.rounds)
    for name, fine in well.items():
        print(f"{name}: int8 {'no worse than the vendor’s' if fine else 'WORSE than the vendor’s'}")
    return 0 if all(well.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
