"""Check outputs over whole splits: those of the model in any batches, computed once for all that compare with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stages.keras.tensorflow import import_keras
from stages.verify.predict import predict, shared_made_up, shared_outputs

X = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)


def heads() -> Any:
    """Build two outputs of one input."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    x = keras.Input((3,), name="x")
    return keras.Model(x, [keras.layers.Dense(2, name="a")(x), keras.layers.Dense(1, name="b")(x)])


@pytest.mark.parametrize("batch", [3, 10, 64])
def test_outputs_do_not_depend_on_the_batches(make_split: Callable[..., Any], batch: int) -> None:
    model, heard = heads(), []
    found = predict(model, make_split("test", X, np.zeros(10)), batch, lambda *done: heard.append(done))
    for output, expected in zip(found, model(X), strict=True):
        np.testing.assert_allclose(output, np.asarray(expected), rtol=1e-6)
    assert heard[-1] == (10, 10)
    assert len(heard) == -(-10 // batch)


def test_outputs_are_computed_once_for_a_model_and_a_split(
    make_context: Callable[..., Any], make_split: Callable[..., Any]
) -> None:
    context, heard = make_context(None), []
    context.inputs = {"reference": context.write_model(heads())}
    split = make_split("test", X, np.zeros(10))

    def outputs(of: Any) -> Any:
        return shared_outputs(context, "reference", of, 4, lambda *done: heard.append(done))

    first = outputs(split)
    assert outputs(split) is first
    assert len(heard) == 3
    with pytest.raises(ValueError, match="read-only"):
        first[0][0] = 1.0
    other = outputs(replace(split, x=2 * X, digest="sha256:" + "0" * 64))
    assert len(heard) == 6
    assert not np.array_equal(other[0], first[0])


def test_made_up_inputs_have_outputs_by_set_and_name(
    make_context: Callable[..., Any], make_split: Callable[..., Any]
) -> None:
    context, model = make_context(None), heads()
    context.inputs = {"reference": context.write_model(model)}
    found = shared_made_up(
        context, "reference", make_split("test", X, np.zeros(10)), 4, {"zeros": {"x": 0 * X[:1]}, "ones": {"x": X[:2]}}
    )
    assert {name: list(outputs) for name, outputs in found.items()} == {"zeros": ["a", "b"], "ones": ["a", "b"]}
    np.testing.assert_allclose(found["zeros"]["a"], np.zeros((1, 2)), atol=1e-7)
    np.testing.assert_allclose(found["ones"]["b"], np.asarray(model(X[:2])[1]), rtol=1e-6)
