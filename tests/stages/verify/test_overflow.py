"""Numbers that are not finite, in Keras or in a file alone, on real inputs and on made-up ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.errors import PostconditionError
from stages.export import convert_onnx
from stages.tf_runtime import import_keras
from stages.verify import Bounds, Tolerances, VerifyConfig


def summing(activation: str) -> Any:
    """A network whose output grows with how many of its inputs are large."""
    keras = import_keras()
    x = keras.Input((12,), name="x")
    total = keras.layers.Dense(1, kernel_initializer="ones", name="total")(x)
    return keras.Model(x, keras.layers.Activation(activation, name="y")(total))


@pytest.fixture
def verifying_sums(
    make_context: Callable[..., Any], make_split: Callable[..., Any], export_artifact: Any
) -> Callable[..., Any]:
    """A reference and a file on test samples that have one large number each; made-up samples have twelve."""

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
    with pytest.raises(PostconditionError, match=r"12 outputs of the reference are not finite.*infinity is 'y'"):
        run(verifying_sums("exponential", "linear", large=100.0))


def test_a_file_that_overflows_on_made_up_inputs_only_fails(verifying_sums: Callable[..., Any], run: Any) -> None:
    what = r"outputs of the exported file are not finite, first that of sample 0; the first layer that differs is 'y'"
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
