"""Keras models on their way from stage to stage: each stored in its normal form, and kept in memory for the next one.

Reading a stored model costs as much as a small stage does, and a chain reads each of its models several times. So what
was written or read last is kept, as long as all that is kept stays small, and found again by its content's digest: an
equal digest is an equal model. What is kept is a copy made for the store, which nobody trains or changes.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

from pipeline.artifacts import FileRef
from pipeline.stage import StageContext
from stages.keras_format import (
    MEDIA_TYPE,
    MODEL_FILE,
    copy_model,
    decode_model,
    encode_copy,
    random_inputs,
    relative_difference,
)

KEPT_BYTES = 256 * 2**20  # of weights; the newest model is kept whatever its size

_kept: OrderedDict[str, Any] = OrderedDict()


def write_model(context: StageContext[Any], model: Any) -> FileRef:
    """Store `model`, as it is now, in its normal form."""
    copy = copy_model(model)
    file = context.write(MODEL_FILE, encode_copy(copy), MEDIA_TYPE)
    _keep(file.digest, copy)
    return file


def write_checked(context: StageContext[Any], model: Any) -> tuple[FileRef, float]:
    """`write_model`, and how far what was stored is from `model`: relative output difference on random samples."""
    data = encode_copy(copy_model(model))
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        path = Path(folder) / MODEL_FILE
        path.write_bytes(data)
        stored = decode_model(path)
    inputs = random_inputs(model)
    difference = relative_difference(model(inputs, training=False), stored(inputs, training=False))
    file = context.write(MODEL_FILE, data, MEDIA_TYPE)
    _keep(file.digest, stored)
    return file, difference


def shared_model(context: StageContext[Any], input_name: str) -> Any:
    """The model of an input, for stages that only read it. Don't train or change it: others get the same one."""
    digest = context.inputs[input_name].file(MODEL_FILE).digest
    path = context.read(input_name, MODEL_FILE)  # verified, even where the model is here already
    if digest in _kept:
        _kept.move_to_end(digest)
    else:
        _keep(digest, decode_model(path))
    return _kept[digest]


def own_model(context: StageContext[Any], input_name: str) -> Any:
    """The model of an input, for the caller alone."""
    return copy_model(shared_model(context, input_name))


def _keep(digest: str, model: Any) -> None:
    _kept[digest] = model
    _kept.move_to_end(digest)
    while len(_kept) > 1 and sum(map(_bytes_of, _kept.values())) > KEPT_BYTES:
        _kept.popitem(last=False)


def _bytes_of(model: Any) -> int:
    return sum(weight.shape.num_elements() * weight.dtype.size for weight in model.weights)
