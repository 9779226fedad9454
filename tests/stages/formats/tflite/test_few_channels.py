"""Compare int8 files in which convolutions with few channels were rewritten with the converter's, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from stages.formats.tflite import convert
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.few_channels import Convolution, Window, with_more_channels
from stages.formats.tflite.session import SIGNATURE
from stages.formats.tflite.tensors import count_operators
from stages.formats.tflite.twins import twins
from stages.keras.tensorflow import import_keras

SAMPLES = 8
GRAY = (  # kernel, strides, padding, dilation of convolutions of one channel
    ((3, 3), (1, 1), "same", 1),
    ((10, 4), (2, 2), "same", 1),
    ((3, 5), (1, 4), "same", 1),
    ((2, 2), (1, 1), "same", 1),
    ((5, 5), (2, 2), "valid", 1),
    ((4, 6), (3, 1), "valid", 1),
    ((1, 9), (1, 3), "valid", 1),
)
COLOR = (
    ((3, 3), (2, 2), "same", 1),
    ((3, 3), (2, 2), "valid", 1),
    ((7, 7), (4, 4), "same", 1),
    ((3, 99), (1, 2), "same", 1),
)
LEFT = (((3, 3), (1, 1), "same", 2), ((3, 3), (3, 5), "same", 1))  # dilated, and a row of no whole strides


@pytest.fixture(scope="module")
def files() -> tuple[Any, bytes, bytes]:
    """Return samples by input, the file as the converter makes it, and the file as exported."""
    keras = import_keras()
    keras.utils.set_random_seed(3)
    gray, color = keras.Input((18, 24, 1), name="gray"), keras.Input((20, 24, 3), name="color")
    outputs = []
    for image, cases in ((gray, GRAY), (color, COLOR), (gray, LEFT)):
        for size, strides, padding, dilation in cases:
            place = len(outputs)
            layer = keras.layers.Conv2D(
                24, size, strides, padding, dilation_rate=dilation, activation="relu" if place % 2 else None,
                bias_initializer="random_normal", name=f"case{place}",
            )  # fmt: skip
            outputs.append(layer(image))
    model, order = keras.Model([gray, color], outputs), np.random.default_rng(4)
    samples = [(order.normal(size=(SAMPLES, *shape)) + 1).astype(np.float32) for shape in ((18, 24, 1), (20, 24, 3))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "with_more_channels", lambda data: data)
        before = convert_tflite(model, "int8", calibration=samples)
    return {"gray": samples[0], "color": samples[1]}, before, with_more_channels(before)


@pytest.mark.parametrize("kernels", ["AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF"])
def test_every_kernel_computes_the_same_bits(files: tuple[Any, bytes, bytes], kernels: str) -> None:
    samples, before, after = files
    found, wanted = outputs(after, samples, kernels), outputs(before, samples, kernels)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert values.std() > 0, name
        assert np.array_equal(found[name], values), name


def test_all_but_two_are_rewritten_and_only_once(files: tuple[Any, bytes, bytes]) -> None:
    _, before, after = files
    assert count_operators(before)["CONV_2D"] == len(GRAY) + len(COLOR) + len(LEFT)
    kept = [twin.channels for twin in twins(after, "test") if twin.kind == "CONV_2D" and "gather" not in twin.name]
    assert len(kept) == len(GRAY) + len(COLOR) + len(LEFT)
    assert kept.count(1) == len(LEFT)
    assert with_more_channels(after) is after


def test_a_convolution_of_a_whole_group_or_a_cheap_one_stays() -> None:
    rows = Window(width=32, out=32, size=3, stride=1, same=True)
    assert Convolution(32, 32, 16, 3, rows, channels=8).cheapest() is None
    assert Convolution(32, 32, 16, 3, rows, channels=3).cheapest() is None  # ResNet-8's
    assert Convolution(2, 2, 8, 3, Window(4, 4, 3, 1, same=True), channels=1).cheapest() is None


@pytest.mark.parametrize(
    ("rows", "wanted"), [(Window(10, 5, 4, 2, True), (0, 1)), (Window(96, 48, 3, 2, True), (0, 2))]
)
def test_blocks_hold_what_windows_read(rows: Window, wanted: tuple[int, int]) -> None:
    """Keyword spotting's rows in one block, and those of visual wake words two pixels at a time."""
    assert rows.blocks(10 if rows.width == 10 else 2) == wanted


def outputs(data: bytes, samples: Any, kernels: str) -> dict[str, Any]:
    interpreter = Interpreter(model_content=data, experimental_op_resolver_type=OpResolverType[kernels])
    interpreter.allocate_tensors()
    runner, found = interpreter.get_signature_runner(SIGNATURE), []
    for place in range(SAMPLES):
        made = runner(**{name: values[place : place + 1] for name, values in samples.items()})
        found.append({name: np.array(values) for name, values in made.items()})
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}
