"""Share what tests of counts need: networks of one layer, and sessions that do not grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stages.keras.tensorflow import import_keras


@pytest.fixture
def fresh_session() -> Iterator[None]:
    """Clear the session: Keras keeps every symbolic tensor in one graph, and names count on."""
    yield
    import_keras().backend.clear_session()


@pytest.fixture
def of_one_input() -> Callable[..., Any]:
    """Build a network of one input from what makes its layer, given `keras.layers`."""

    def build(make: Callable[[Any], Any], shape: tuple[int | None, ...], **settings: Any) -> Any:
        keras = import_keras()
        inputs = keras.Input(shape, **settings)
        return keras.Model(inputs, make(keras.layers)(inputs))

    return build
