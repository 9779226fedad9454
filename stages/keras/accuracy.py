"""Measure a classifier's top-1 accuracy over samples, with weights that change between measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel


def predictor(model: KerasModel) -> Callable[[Any], Any]:
    """Return a function that returns the class numbers, int64 (n,), that `model` predicts for inputs (n, …).

    It compiles the model once and reads the weights again at each call. A single output is a class of two: above 0.5,
    or above 0 if outputs are logits.
    """
    from stages.keras.losses import gives_logits, is_binary

    tf = import_tensorflow()
    threshold = 0.0 if gives_logits(model) else 0.5
    binary = is_binary(model)

    # The last batch is smaller: traced at most once more, and then for any size.
    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def predict(inputs: Any) -> Any:
        outputs = model(inputs, training=False)
        return tf.cast(outputs[..., 0] > threshold, tf.int64) if binary else tf.argmax(outputs, axis=-1)

    return lambda x: predict(tf.constant(x))


def correct_counter(model: KerasModel) -> Callable[[Iterable[tuple[Any, Any]]], int]:
    """Return a function that counts, over batches of (inputs, integer labels), how many `model` classifies correctly.

    As with `predictor`, weights are read again at each call.
    """
    import numpy as np

    predict = predictor(model)
    return lambda batches: sum(int(np.count_nonzero(predict(x).numpy() == np.asarray(y))) for x, y in batches)
