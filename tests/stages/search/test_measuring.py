from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.contracts.events import silent
from pipeline.errors import StoreError
from pipeline.records.artifacts import FileRef
from pipeline.records.manifest import Output, RunManifest, StageEntry
from pipeline.records.metrics import SIZE
from pipeline.store import Store
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.facts import TFLiteFacts
from stages.keras.tensorflow import import_keras
from stages.search.measuring import against_source


def dense(width):
    keras = import_keras()
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(width), keras.layers.Dense(4)])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    store.create()
    return store


@pytest.fixture(scope="module")
def run_of(store):
    def make(width):
        data = convert_tflite(dense(width), "float32")
        file = FileRef(name="model.tflite", digest=store.blobs.put(data), size=len(data), media_type="x")
        facts = TFLiteFacts(scheme="float32", inputs=(), outputs=(), operators={})
        output = Output(kind="tflite-model", digest=file.digest, files=(file,), facts=facts)
        entry = StageEntry(
            id="export:tflite/float32", stage="export", axis="tflite/float32", key="0", status="ran", reason="",
            wall_s=0.0, outputs=(output,),
        )  # fmt: skip
        return RunManifest(
            run_id="abcd1234", name="n", recipe_digest=file.digest, stages=(entry,), gates=(), verdict="pass",
            metrics={"tflite/float32.size_bytes": float(len(data))},
        )  # fmt: skip

    return make


def test_a_wide_network_takes_longer_than_a_narrow_one(goal, run_of, store):
    sides = {"baseline": run_of(4096), "candidate": run_of(8)}
    found = against_source(goal, "tflite/float32", sides, store, Path(), silent)
    assert found.low <= found.ratio <= found.high < 0.5


def test_sizes_are_exact_and_need_no_device(goal, run_of, store):
    goal = replace(goal, cost=SIZE, target=None)
    sides = {"baseline": run_of(64), "candidate": run_of(8)}
    found = against_source(goal, "tflite/float32", sides, store, Path(), silent)
    sizes = [run.metrics["tflite/float32.size_bytes"] for run in sides.values()]
    assert (found.ratio, found.low, found.high) == (pytest.approx(sizes[1] / sizes[0]), None, None)


def test_what_the_source_has_not_can_not_be_compared(goal, run_of, store):
    sides = {"baseline": run_of(8), "candidate": run_of(8)}
    assert against_source(goal, "tflite/int8", sides, store, Path(), silent) is None


def test_a_file_that_is_lost_is_told(goal, run_of, store):
    lost = run_of(16)
    (output,) = lost.stages[0].outputs
    store.blobs.path(output.files[0].digest).unlink()
    with pytest.raises(StoreError, match=r"model\.tflite"):
        against_source(goal, "tflite/float32", {"baseline": lost, "candidate": lost}, Store(store.root), Path(), silent)
