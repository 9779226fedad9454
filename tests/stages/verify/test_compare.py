"""Test numbers that are not finite, in Keras or in a file alone, on real inputs and on synthetic ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DataError, PostconditionError
from stages.formats.onnx.convert import convert_onnx
from stages.formats.tflite.convert import convert_tflite
from stages.keras.tensorflow import import_keras
from stages.verify.config import Bounds, Tolerances, VerifyConfig


def summing(activation: str) -> Any:
    """Build a network whose output grows with how many of its inputs are large."""
    keras = import_keras()
    x = keras.Input((12,), name="x")
    total = keras.layers.Dense(1, kernel_initializer="ones", name="total")(x)
    return keras.Model(x, keras.layers.Activation(activation, name="y")(total))


@pytest.fixture
def verifying_sums(
    make_context: Callable[..., Any], make_split: Callable[..., Any], export_artifact: Any
) -> Callable[..., Any]:
    """Return a reference and a file on test samples that have one large number each; synthetic samples have twelve."""

    def make(reference: str, exported: str, large: float = 10.0, **settings: Any) -> Any:
        context = make_context(VerifyConfig(**settings), axis="onnx/float32")
        x = np.eye(12, dtype=np.float32) * large
        context.splits = {"test": make_split("test", x, np.zeros((12, 1), np.float32), task="regression")}
        data = convert_onnx(summing(exported), "float32")
        context.inputs = {
            "export": export_artifact(context, ("onnx", "float32"), data),
            "reference": context.write_model(summing(reference)),
        }
        return context

    return make


def test_made_up_inputs_on_which_keras_overflows_are_left_out_by_name(
    verifying_sums: Callable[..., Any], run: Any
) -> None:
    context = verifying_sums("exponential", "exponential")
    rows = run(context).outputs[0].facts.rows
    assert [row.inputs for row in rows] == ["test", "zeros", "lowest", "extremes", "noise"]
    assert context.warnings[0] == "Keras gives no finite numbers on highest inputs, first in layer y"


def test_a_reference_that_overflows_on_real_inputs_fails_by_its_layer(
    verifying_sums: Callable[..., Any], run: Any
) -> None:
    with pytest.raises(
        PostconditionError, match=r"outputs of the reference are not finite on 12 samples.*infinity is 'y'"
    ):
        run(verifying_sums("exponential", "linear", large=100.0))


def test_a_file_that_overflows_on_made_up_inputs_only_fails(verifying_sums: Callable[..., Any], run: Any) -> None:
    what = r"outputs of the exported file are not finite on .* first on sample 0; the first layer that differs is 'y'"
    with pytest.raises(PostconditionError, match=what):
        run(verifying_sums("sigmoid", "exponential"))


def test_where_every_layer_is_found_in_the_file_none_is_blamed(verifying_sums: Callable[..., Any], run: Any) -> None:
    with pytest.raises(PostconditionError, match="each layer's output is found among the file's tensors"):
        run(verifying_sums("linear", "exponential"))


def test_a_bound_on_made_up_inputs_names_the_layer_on_their_worst_sample(
    verifying_sums: Callable[..., Any], run: Any
) -> None:
    bounds = Tolerances(float32=Bounds(adversarial_min_cosine=0.5))
    run(verifying_sums("sigmoid", "sigmoid", tolerances=bounds))
    with pytest.raises(PostconditionError, match=r"on zeros inputs.*the first layer that differs is 'y'"):
        run(verifying_sums("sigmoid", "tanh", tolerances=bounds))


@pytest.mark.parametrize("epsilon", [1e-3, 1e-6])
def test_noise_that_a_normalization_leaves_of_a_constant_is_not_held_against_a_file(
    make_context: Callable[..., Any], make_split: Callable[..., Any], export_artifact: Any, run: Any, epsilon: float
) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(1)
    inputs = keras.Input((12, 8), name="x")
    norm = keras.layers.GroupNormalization(-1, epsilon=epsilon)
    model = keras.Model(inputs, keras.layers.Dense(6, use_bias=False, name="y")(norm(inputs)))
    x = np.random.default_rng(0).standard_normal((6, 12, 8)).astype(np.float32)

    def verifying(data: bytes) -> Any:
        context = make_context(VerifyConfig(), axis="tflite/float32")
        targets = np.zeros((6, 12, 6), np.float32)
        context.splits = {"test": make_split("test", x, targets, task="regression")}
        export = export_artifact(context, ("tflite", "float32"), data)
        context.inputs = {"export": export, "reference": context.write_model(model)}
        return context

    right = verifying(convert_tflite(model, "float32"))
    constants = [row for row in run(right).outputs[0].facts.rows if row.inputs in ("highest", "lowest")]
    assert any(row.max_abs_diff > 1e-4 * row.reference_max_abs for row in constants)
    kernel = model.get_layer("y").kernel
    other = keras.models.clone_model(model)
    other.get_layer("y").set_weights([1.01 * kernel.numpy()])
    with pytest.raises(PostconditionError, match=r"relative difference is 0\.0.*on test inputs"):
        run(verifying(convert_tflite(other, "float32")))


def test_a_sample_that_is_no_number_is_named_before_any_layer(verifying_sums: Callable[..., Any], run: Any) -> None:
    context = verifying_sums("linear", "linear")
    context.splits["test"].x[5, 2] = np.nan
    with pytest.raises(DataError, match="sample 5 of the test split holds NaN or infinity") as caught:
        run(context)
    assert "layer" not in str(caught.value)


@pytest.mark.parametrize(("known", "blamed"), [(True, "y"), (False, "a")])
def test_layers_are_those_of_the_equal_network_that_was_exported(
    make_context: Callable[..., Any], make_split: Callable[..., Any], export_artifact: Any, run: Any, *, known: bool,
    blamed: str,
) -> None:  # fmt: skip
    keras = import_keras()

    factors = np.array([1.0, 8, 0.2, 3, 30, 0.5])

    def network(factors: Any, right: float = 1.0) -> Any:
        x = keras.Input((12,), name="x")
        hidden = keras.layers.Dense(6, activation="relu", name="a")
        model = keras.Model(x, keras.layers.Dense(2, use_bias=False, name="y")(hidden(x)))
        rng = np.random.default_rng(0)
        first, last = rng.standard_normal((12, 6)), rng.standard_normal((6, 2))
        model.set_weights([first * factors, np.zeros(6), last / factors[:, None] * [right, 1.0]])
        return model

    context = make_context(VerifyConfig(), axis="onnx/float32")
    x = np.random.default_rng(1).standard_normal((20, 12)).astype(np.float32)
    context.splits = {"test": make_split("test", x, np.zeros((20, 2), np.float32), task="regression")}
    context.inputs = {
        "export": export_artifact(context, ("onnx", "float32"), convert_onnx(network(factors, 1.5), "float32")),
        "reference": context.write_model(network(np.ones(6))),
        **({"quantized": context.write_model(network(factors))} if known else {}),
    }
    with pytest.raises(PostconditionError, match=rf"the first layer that differs is '{blamed}'"):
        run(context)
