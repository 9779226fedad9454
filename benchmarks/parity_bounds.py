"""Justify verify's bounds for 8 bits: the figures of sound exports of trained networks, and those of broken ones.

Seven small networks, trained here on the demo's images for a few seconds each, exported in all 8-bit schemes of both
formats (sound), calibrated on inputs of another size, and with a fault in the model (broken: an activation left out, a
kernel scaled, a channel lost). Figures compare 256 test images with the network in Keras. Results are kept: a killed
run resumes. About 10 minutes on two cores; docs/design/parity.md has the table.

Exit status 1 unless all sound exports hold verify's default bounds.

    python benchmarks/parity_bounds.py [--work DIR] [--only PATTERN]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from operator import mul as multiply
from pathlib import Path
from typing import Any

from fresh import ROOT
from resumable import DEFAULT_WORK, Results

from pipeline.records.facts import ParityRow
from pipeline.records.schemes import Scheme

TRAINED, CALIBRATION, TESTED = 6000, 128, 256
SOUND: tuple[tuple[str, Scheme], ...] = (
    ("tflite", "int8"),
    ("tflite", "int16x8"),
    ("tflite", "dynamic"),
    ("tflite", "weight_only"),
    ("tflite", "int4_weight_only"),
    ("tflite", "int4_dynamic"),
    ("onnx", "int8"),
    ("onnx", "dynamic"),
    ("onnx", "weight_only"),
)
WRONG_RANGES = (0.25, 0.5, 4.0, 16.0)  # scale of the calibration inputs relative to the test inputs
SCALES = (0.5, 0.8, 1.25, 2.0)
NETWORKS = ("demo", "demo_pruned", "ds_cnn", "resnet", "hard_swish", "autoencoder", "regression")

Images = tuple[Any, Any, Any]  # for training, their classes, for testing


def images() -> Images:
    import numpy as np

    with np.load(ROOT / "configs/assets/fashion_mnist.npz") as held:
        train, test = (held[name].astype(np.float32) / 127.5 - 1 for name in ("x_train", "x_test"))
        return train[:TRAINED], held["y_train"][:TRAINED], test[:TESTED]


def network(name: str, data: Images) -> Any:
    """Return a trained network."""
    from stages.keras.tensorflow import import_keras

    keras, (train, classes, _) = import_keras(), data
    keras.utils.set_random_seed(1)
    if name.startswith("demo"):
        model = keras.models.load_model(ROOT / "configs/assets/mini_xception.keras", compile=False)
        if name == "demo":
            return model
        from stages.prune import PruneConfig, prune_model

        settings = PruneConfig(method="structured", criterion="bn_scale", scope="global", ratio=0.5, round_to=8)
        model = prune_model(model, settings).model
    else:
        model = built(name)
    flat = train.reshape(len(train), -1)
    targets = {"autoencoder": flat, "regression": flat.mean(axis=1)}.get(name, classes)
    ranked = keras.losses.SparseCategoricalCrossentropy(from_logits=name == "hard_swish")
    model.compile(keras.optimizers.Adam(2e-3), "mse" if name in ("autoencoder", "regression") else ranked)
    model.fit(train, targets, batch_size=64, epochs=2, verbose=0)
    return model


def built(name: str) -> Any:
    from stages.keras.tensorflow import import_keras

    keras = import_keras()
    image = keras.Input((28, 28, 1), name="image")
    return keras.Model(image, BUILDERS[name](keras.layers, image), name=name)


def active(layers: Any, x: Any) -> Any:
    return layers.ReLU()(normed(layers, x))


def normed(layers: Any, x: Any) -> Any:
    return layers.BatchNormalization(momentum=0.8)(x)


def hard(layers: Any, x: Any) -> Any:
    gate = layers.ReLU(6.0)(layers.Rescaling(1.0, 3.0)(x))
    return layers.Multiply()([x, layers.Rescaling(1 / 6)(gate)])


def pooled(layers: Any, x: Any, activation: str | None = "softmax") -> Any:
    return layers.Dense(10, activation=activation, name="y")(layers.GlobalAveragePooling2D()(x))


def ds_cnn(layers: Any, x: Any) -> Any:
    x = active(layers, layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(x))
    for _ in range(3):
        x = active(layers, layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x))
        x = active(layers, layers.Conv2D(32, 1, use_bias=False)(x))
    return pooled(layers, x)


def resnet(layers: Any, x: Any) -> Any:
    x = active(layers, layers.Conv2D(16, 3, strides=2, padding="same")(x))
    for _ in range(2):
        z = active(layers, layers.Conv2D(16, 3, padding="same")(x))
        x = layers.ReLU()(layers.Add()([x, normed(layers, layers.Conv2D(16, 3, padding="same")(z))]))
    return pooled(layers, x)


def hard_swish(layers: Any, x: Any) -> Any:
    x = hard(layers, normed(layers, layers.Conv2D(16, 3, strides=2, padding="same")(x)))
    for _ in range(2):
        wide = hard(layers, normed(layers, layers.Conv2D(32, 1)(x)))
        z = layers.DepthwiseConv2D(3, padding="same")(wide)
        gate = layers.Conv2D(8, 1, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(z))
        z = layers.Multiply()([z, layers.Conv2D(32, 1, activation="sigmoid")(gate)])
        x = layers.Add()([x, normed(layers, layers.Conv2D(16, 1)(z))])
    return pooled(layers, hard(layers, x), None)


def autoencoder(layers: Any, x: Any) -> Any:
    x = layers.Flatten()(x)
    for width in (64, 16, 64):
        x = active(layers, layers.Dense(width)(x))
    return layers.Dense(784, name="y")(x)


def regression(layers: Any, x: Any) -> Any:
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, strides=2, activation="relu")(x)
    return layers.Dense(1, name="y")(layers.Dense(32, activation="tanh")(layers.Flatten()(x)))


BUILDERS: dict[str, Callable[[Any, Any], Any]] = {
    function.__name__: function for function in (ds_cnn, resnet, hard_swish, autoencoder, regression)
}


def broken(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the network with one fault each, in Keras: faults of this size dwarf quantization."""
    from stages.keras.normal_form import copy_model

    relus = [layer.name for layer in model.layers if is_relu(layer)]
    kinds = ("Conv2D", "Dense", "DepthwiseConv2D", "SeparableConv2D")
    kernels = [layer.name for layer in model.layers if type(layer).__name__ in kinds]
    middle = kernels[len(kernels) // 2]

    def with_kernel(name: str, change: Callable[[Any], Any]) -> Any:
        copy = copy_model(model)
        kernel, *rest = copy.get_layer(name).get_weights()
        copy.get_layer(name).set_weights([change(kernel.copy()), *rest])
        return copy

    def lose(kernel: Any) -> Any:
        kernel[..., 0] = 0
        return kernel

    for which, place in (("first", 0), ("middle", len(relus) // 2), ("last", -1)):
        yield f"{which} ReLU left out", without_relu(model, relus[place])
    for scale in SCALES:
        yield f"middle kernel times {scale:g}", with_kernel(middle, partial(multiply, scale))
    yield "one middle channel lost", with_kernel(middle, lose)


def is_relu(layer: Any) -> bool:
    return type(layer).__name__ == "ReLU" or getattr(getattr(layer, "activation", None), "__name__", "") == "relu"


def without_relu(model: Any, name: str) -> Any:
    from stages.keras.tensorflow import import_keras

    keras = import_keras()

    def cloned(layer: Any) -> Any:
        if layer.name != name:
            return type(layer).from_config(layer.get_config())
        if type(layer).__name__ == "ReLU":
            return keras.layers.Activation("linear", name=name)
        return type(layer).from_config({**layer.get_config(), "activation": "linear"})

    copy = keras.models.clone_model(model, clone_function=cloned)
    copy.set_weights(model.get_weights())
    return copy


def exported(model: Any, target_format: str, scheme: Scheme, data: Images, scale: float = 1.0) -> Any:
    """Return a file's outputs on the test images, calibrated on training images times `scale`."""
    import numpy as np

    from stages.formats.onnx.convert import convert_onnx
    from stages.formats.registry import formats, load_exported
    from stages.formats.tflite.convert import convert_tflite

    samples = data[0][:CALIBRATION] * np.float32(scale) if scheme in ("int8", "int16x8") else None
    convert = convert_tflite if target_format == "tflite" else convert_onnx
    file = convert(model, scheme, calibration=samples)
    found = load_exported(formats()[target_format].kind, file).run({model.input_names[0]: data[2]})
    return found[model.output_names[0]]


def measured(name: str) -> list[dict[str, Any]]:
    """Return all figures of one network, as labelled rows of parity."""
    from pipeline.errors import SecateurError
    from stages.verify.compare import parity_row

    data = images()
    model = network(name, data)
    reference = model.predict(data[2], verbose=0)
    classes = name not in ("autoencoder", "regression")
    found: list[dict[str, Any]] = []

    def add(what: str, scheme: Scheme, outputs: Any, *, sound: bool) -> None:
        row = parity_row("test", "y", reference, outputs, classes)
        found.append({"what": what, "scheme": scheme, "sound": sound, "row": row.model_dump(mode="json")})

    for target_format, scheme in SOUND:
        try:
            add(f"{target_format}/{scheme}", scheme, exported(model, target_format, scheme, data), sound=True)
        except SecateurError as error:
            print(f"{name} {target_format}/{scheme}: {error.what}")
    for scale in WRONG_RANGES:
        outputs = exported(model, "tflite", "int8", data, scale)
        add(f"calibrated on inputs times {scale:g}", "int8", outputs, sound=False)
    for what, fault in broken(model):
        add(what, "int8", fault.predict(data[2], verbose=0), sound=False)
    return found


def main() -> int:
    from stages.verify.config import Tolerances
    from stages.verify.limits import violation

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--only", default="*", help="a pattern of networks")
    options = parser.parse_args()
    results, refused = Results(options.work, Path(__file__)), 0
    for name in (name for name in NETWORKS if fnmatchcase(name, options.only)):
        found = results.get({"network": name})
        if found is None:
            found = measured(name)
            results.add({"network": name}, found)
        for entry in found:
            row = ParityRow.model_validate_json(json_of(entry["row"]))
            violated = violation(row, Tolerances().of(entry["scheme"]))
            refused += bool(entry["sound"] and violated)
            top1 = "" if row.top1_agreement is None else f"{row.top1_agreement:6.3f}"
            kind, verdict = "sound" if entry["sound"] else "broken", violated.setting if violated else "passes"
            print(f"{name:12} {kind:6} {entry['what']:32} {row.sqnr_db:6.1f} dB {row.cosine:7.4f} {top1:6} {verdict}")
    print(f"sound exports that are refused: {refused}")
    return 1 if refused else 0


def json_of(value: Any) -> str:
    import json

    return json.dumps(value)


if __name__ == "__main__":
    raise SystemExit(main())
