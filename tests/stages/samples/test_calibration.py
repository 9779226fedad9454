"""Check calibration sets as bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.records.artifacts import Artifact
from pipeline.records.facts import QuantizedFacts
from pipeline.records.schemes import Quantization
from stages.keras.normal_form import MODEL_FILE
from stages.samples.calibration import (
    COST_SAMPLES,
    decode_samples,
    encode_samples,
    hardly_calibrated,
    write_calibration_set,
)


def test_samples_come_back_and_their_bytes_follow_from_the_numbers(tmp_path: Path) -> None:
    samples = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    data = encode_samples(samples)
    assert data == encode_samples(np.asfortranarray(samples)) == encode_samples(samples.astype(">f4"))
    assert hashlib.sha256(data).hexdigest() == "a34bbbba96329a08c782329c71b560041ed51e1eae9baae38e909c43105fdc30"
    path = tmp_path / "blob"
    path.write_bytes(data)
    np.testing.assert_array_equal(decode_samples(path), samples)


def test_a_model_that_is_only_timed_keeps_its_first_samples_of_each_input(make_context: Any) -> None:
    context = make_context(None)
    context.read_made = lambda artifact, name: context.stored(artifact.file(name))
    arrays = [np.arange(60, dtype=np.float32).reshape(20, 3), np.arange(20, dtype=np.float32).reshape(20, 1)]
    samples, model = write_calibration_set(context, arrays), context.write(MODEL_FILE, b"model", "x")
    facts = QuantizedFacts(
        quantization=Quantization(scheme="int8", keep_float=("a",)),
        io="float32",
        calibration=samples.digest,
        params=1,
        macs=2,
        model_digest=Artifact(files=(model,), facts=samples.facts).digest,
    )
    made = hardly_calibrated(context, Artifact(files=(model, *samples.files), facts=facts))
    few = [decode_samples(context.stored(file)) for file in made.files[1:]]
    assert made.file(MODEL_FILE) == model
    assert [array.tolist() for array in few] == [array[:COST_SAMPLES].tolist() for array in arrays]
    told = made.facts
    assert isinstance(told, QuantizedFacts)
    assert told.calibration not in (None, samples.digest)
    assert told.model_copy(update={"calibration": samples.digest}) == facts
    in_float = Artifact(files=(model,), facts=facts.model_copy(update={"calibration": None}))
    assert hardly_calibrated(context, in_float) == in_float
