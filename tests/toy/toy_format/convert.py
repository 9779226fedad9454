"""Convert dense networks to the arrays of an npz file, in the child, like real converters."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from pipeline.errors import UnsupportedError
from pipeline.records.artifacts import TensorSpec
from stages.formats.conversion import compared, job_of, made_here
from stages.formats.format import LoadedModel
from stages.keras.tensorflow import tensorflow_action
from toy_format.facts import ToyFacts
from toy_format.opener import computed

FILE = "model.npz"


def load(data: bytes) -> LoadedModel:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    names = [str(arrays.pop("toy")), str(arrays.pop("output"))]
    shapes = [len(arrays["kernel0"]), arrays[f"kernel{len(arrays) // 2 - 1}"].shape[1]]
    specs = [TensorSpec(name=n, shape=(None, size), dtype="float32") for n, size in zip(names, shapes, strict=True)]
    return LoadedModel((specs[0],), (specs[1],), lambda given: {names[1]: computed(arrays, given[names[0]])})


def convert_here(context: Any) -> dict[str, Any]:
    with tensorflow_action(context.seed, context.threads):
        job = job_of(context, "toy")
        arrays = {"toy": np.array(job.model.input_names[0]), "output": np.array(job.model.output_names[0])}
        layers = [layer for layer in job.model.layers if layer.get_weights()]
        for place, layer in enumerate(layers):
            wanted = "linear" if layer is layers[-1] else "relu"
            if type(layer).__name__ != "Dense" or layer.activation.__name__ != wanted:
                raise UnsupportedError(f"layer {layer.name!r} is no Dense with {wanted}", where=context.axis)
            arrays[f"kernel{place}"], arrays[f"bias{place}"] = layer.get_weights()
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        loaded, difference = compared(job, lambda: load(buffer.getvalue()))
    (context.work_dir / FILE).write_bytes(buffer.getvalue())
    operators = {"Dense": len(layers)}
    facts = ToyFacts(scheme="float32", inputs=loaded.inputs, outputs=loaded.outputs, operators=operators)
    return made_here(facts, difference)
