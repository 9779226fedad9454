import os

import pytest

from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.facts import CalibrationFacts
from pipeline.records.manifest import Action, ActionRecord, Output, Provenance, RunManifest, StageEntry


def put_record(store, data=b"payload", stage="quantize", children=()):
    digest = store.blobs.put(data)
    file = FileRef(name="calibration.npy", digest=digest, size=len(data), media_type="application/x-npy")
    action = Action(
        stage=stage,
        version=1,
        axis="int8",
        config={},
        inputs={},
        packages={},
        seed=None,
        threads=None,
        device=None,
    )
    made = ActionRecord.sealed(
        key=action.key,
        action=action,
        outputs=(Artifact(files=(file,), facts=CalibrationFacts(samples=1)),),
        metrics={"samples": 1.0},
        intervals={"samples": (0.5, 1.5)},
        children=children,
        wall_s=0.1,
        provenance=Provenance(run_id="0", finished_at="2026-11-22T00:00:00", host="h", secateur="0"),
    )
    store.records.put(made)
    return made


@pytest.fixture
def record():
    """Put the record of a quantization with one file of this content into a store, and return it."""
    return put_record


def put_run(store, run_id, *records, age_s=0.0):
    """Write the manifest of a run of these actions, as if they all had been done so long ago."""
    entries = [
        StageEntry(
            id=record.action.stage,
            stage=record.action.stage,
            axis=None,
            key=record.key,
            status="ran",
            reason="first run",
            wall_s=0.1,
            outputs=tuple(map(Output.of, record.outputs)),
            children=record.children,
        )
        for record in records
    ]
    manifest = RunManifest(
        run_id=run_id,
        name=f"recipe of {run_id}",
        recipe_digest="sha256:" + "0" * 64,
        stages=tuple(entries),
        metrics={},
        gates=(),
        verdict="pass",
    )
    store.runs.put(manifest)
    paths = [store.records.path(record.key) for record in records]
    paths += [store.blobs.path(output.files[0].digest) for entry in entries for output in entry.outputs]
    for path in (*paths, store.root / "runs" / run_id / "manifest.json"):
        os.utime(path, (path.stat().st_mtime - age_s,) * 2)


@pytest.fixture
def run_of():
    """Put the manifest of a run of some records into a store; `age_s` makes all of it older."""
    return put_run
