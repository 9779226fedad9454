"""Declare shapes of outputs whose rank TensorFlow leaves open, since ONNX requires them.

`tf.squeeze` without axes is such a case: with a free batch it drops the batch axis too if the batch is 1. The graph
keeps that operator, so that it computes what Keras does for every batch; its output is declared as Keras gives it for
batches of more than one sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.errors import ModelError
from stages.keras.serving import Shapes, input_specs, serving_function
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel

BATCHES = (2, 3)  # sizes that differ between the two are free


def declare_ranks(model: KerasModel, outputs: Sequence[Any], shapes: Shapes | None) -> None:
    """Write a shape into each ValueInfoProto of `outputs` that has none. ModelError if its rank can't be told."""
    open_ones = [value for value in outputs if not value.type.tensor_type.HasField("shape")]
    if not open_ones:
        return
    tf = import_tensorflow()
    traced = [
        serving_function(tf, model, input_specs(tf, model, batch, shapes)).get_concrete_function().structured_outputs
        for batch in BATCHES
    ]
    for value in open_ones:
        few, more = (structured[value.name].shape for structured in traced)
        if few.rank is None or few.rank != more.rank:
            raise ModelError(
                f"ONNX wants the rank of every output, and that of {value.name!r} depends on sizes that are free",
                where=model.name,
                hint="give its layer the axes that it drops, or choose the sizes: export.shapes",
            )
        # Makes the field present also for a scalar, which adds no dimension.
        value.type.tensor_type.shape.SetInParent()
        for size_of_few, size_of_more in zip(few, more, strict=True):
            dimension = value.type.tensor_type.shape.dim.add()
            if size_of_few != size_of_more:
                dimension.dim_param = "batch"
            elif size_of_few is not None:
                dimension.dim_value = size_of_few
