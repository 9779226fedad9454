"""Pass Keras models from stage to stage: each stored in its normal form, and kept in memory for the next one.

Reading a stored model costs as much as a small stage does, and a chain reads each of its models several times. So the
models written or read last are kept, as long as their total stays small, and found again by the digest of their
content: an equal digest means an equal model. What is kept is a copy made for the store, which nobody trains or
changes.

Each model's fingerprint is recorded, and compared with what is read. Outputs over data are measured on
`untouched_model`: the kept one if it is proved to be as it was stored. Synthetic inputs, and whatever explains a
difference, use `reference_model`: made from the stored bytes, for measuring alone, so that no bug of another stage can
affect both.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pipeline.contracts.stage import StageContext
from pipeline.records.artifacts import FileRef
from pipeline.records.facts import KerasFacts
from stages.keras.fingerprints import check_fingerprint, fingerprint_of, same_bits
from stages.keras.free_sizes import put_shapes, settled
from stages.keras.normal_form import (
    MEDIA_TYPE,
    MODEL_FILE,
    copy_model,
    decode_model,
    encode_copy,
    random_inputs,
    relative_difference,
)
from stages.keras.types import KerasModel

KEPT_BYTES = 256 * 2**20  # of weights; the newest model is kept whatever its size


class KeptModels:
    """Hold the models that a run wrote or read last, by the digests of their files."""

    def __init__(self) -> None:
        self.shared: OrderedDict[str, KerasModel] = OrderedDict()
        self.references: OrderedDict[str, KerasModel] = OrderedDict()
        # `state_of` each shared model, when it was put there
        self.states: WeakKeyDictionary[KerasModel, str] = WeakKeyDictionary()


def write_model(context: StageContext[Any], model: KerasModel) -> FileRef:
    """Store `model`, as it is now, in its normal form."""
    _settle(context, model)
    copy = copy_model(model)
    return _stored(context, encode_copy(copy), copy)


def write_new(context: StageContext[Any], model: KerasModel) -> FileRef:
    """Store a model that was built of a configuration, as copies are, and that nobody changes any more: no copy."""
    _settle(context, model)
    return _stored(context, encode_copy(model), model)


def write_checked(context: StageContext[Any], model: KerasModel) -> tuple[FileRef, float]:
    """Call `write_model`; also return how far the stored model is from `model`, relative, on random samples."""
    data = encode_copy(copy_model(model))
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        path = Path(folder) / MODEL_FILE
        path.write_bytes(data)
        # What later stages will read is compared, and not a copy that exists in this process only.
        stored = decode_model(path)
    inputs = random_inputs(model)
    difference = relative_difference(model(inputs, training=False), stored(inputs, training=False))
    return _stored(context, data, stored), difference


def shared_model(context: StageContext[Any], input_name: str) -> KerasModel:
    """Return the model of an input, for stages that only read it. Don't train or change it: others get the same one."""
    kept = context.shared.of(KeptModels)
    model = _read(context, input_name, kept.shared)
    if model not in kept.states:
        kept.states[model] = state_of(model)
    return model


def reference_model(context: StageContext[Any], input_name: str) -> KerasModel:
    """Return the model of an input from its stored bytes, to compare files with: no other stage gets this one."""
    return _read(context, input_name, context.shared.of(KeptModels).references)


def untouched_model(context: StageContext[Any], input_name: str) -> KerasModel:
    """Return the model of an input for measuring: the kept one if it is as it was stored, else `reference_model`.

    That is proved by its configuration, weights and instance attributes of its layers, and by the fingerprint of its
    outputs, which costs a fifth of reading the model again. If the fingerprint can't be reproduced bit for bit, the
    model is read.
    """
    file = context.inputs[input_name].file(MODEL_FILE)
    kept, wanted = context.shared.of(KeptModels), context.fingerprint(file)
    model = kept.shared.get(file.digest)
    if model is not None and wanted is not None and kept.states[model] == state_of(model):
        context.read(input_name, MODEL_FILE)  # verified, as always
        if same_bits(model, wanted, context.threads):
            return model
    return reference_model(context, input_name)


def own_model(context: StageContext[Any], input_name: str) -> KerasModel:
    """Return the model of an input, for the caller alone."""
    return copy_model(shared_model(context, input_name))


def _settle(context: StageContext[Any], model: KerasModel) -> None:
    """Give a model that leaves sizes open those of the stage's input."""
    if not settled(model):
        for artifact in context.inputs.values():
            if isinstance(artifact.facts, KerasFacts):
                put_shapes(model, artifact.facts.macs_size or {})


def _stored(context: StageContext[Any], data: bytes, model: KerasModel) -> FileRef:
    """Write `data`, which `model` was made from or encodes, and keep the model."""
    file = context.write(MODEL_FILE, data, MEDIA_TYPE)
    fingerprint = fingerprint_of(model, context.threads)
    if fingerprint is not None:
        context.attest(file, fingerprint)
    kept = context.shared.of(KeptModels)
    _keep(file.digest, model, kept.shared)
    kept.states[model] = state_of(model)
    return file


def _read(context: StageContext[Any], input_name: str, kept: OrderedDict[str, KerasModel]) -> KerasModel:
    file = context.inputs[input_name].file(MODEL_FILE)
    path = context.read(input_name, MODEL_FILE)  # verified, even if the model is in memory already
    if file.digest not in kept:
        model, wanted = decode_model(path), context.fingerprint(file)
        if wanted is not None:
            check_fingerprint(model, wanted, context.threads, f"{input_name} {file.digest[:15]}…")
        kept[file.digest] = model
    _keep(file.digest, kept[file.digest], kept)
    return kept[file.digest]


def _keep(digest: str, model: KerasModel, kept: OrderedDict[str, KerasModel]) -> None:
    kept[digest] = model
    kept.move_to_end(digest)
    while len(kept) > 1 and sum(map(_bytes_of, kept.values())) > KEPT_BYTES:
        kept.popitem(last=False)


def state_of(model: KerasModel) -> str:
    """Digest what a model's outputs depend on: configuration, weights, instance attributes that its layers call."""
    layers = [layer.__dict__ for layer in model._flatten_layers()]  # noqa: SLF001 - itself and all inside
    # By identity: what someone put in the place of `call` can look the same, and be gone again before outputs are
    # compared.
    called = [
        sorted((name, id(value)) for name, value in attributes.items() if callable(value)) for attributes in layers
    ]
    digest = hashlib.sha256(json.dumps([model.get_config(), called], sort_keys=True, default=repr).encode())
    for weight in model.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


def _bytes_of(model: KerasModel) -> int:
    return sum(weight.shape.num_elements() * weight.dtype.size for weight in model.weights)
