import pytest

from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.facts import CalibrationFacts
from pipeline.records.manifest import Action, ActionRecord, Provenance


def put_record(store, data=b"payload"):
    digest = store.blobs.put(data)
    file = FileRef(name="calibration.npy", digest=digest, size=len(data), media_type="application/x-npy")
    action = Action(
        stage="quantize",
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
        children=(),
        wall_s=0.1,
        provenance=Provenance(run_id="0", finished_at="2026-11-22T00:00:00", host="h", secateur="0"),
    )
    store.records.put(made)
    return made


@pytest.fixture
def record():
    """Put the record of a quantization with one file of this content into a store, and return it."""
    return put_record
