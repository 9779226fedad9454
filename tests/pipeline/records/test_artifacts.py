import json

import pytest
from pydantic import ValidationError

from pipeline.records.artifacts import Artifact, FileRef, PlainFacts
from pipeline.records.facts import CalibrationFacts, EvaluationFacts
from pipeline.records.manifest import Output

EVALUATION = {"files": [], "facts": {"kind": "evaluation", "samples": 3, "metrics": {"accuracy": 0.5}}}

ARTIFACT = Artifact(
    files=(FileRef(name="calibration.npy", digest="sha256:" + "1" * 64, size=3, media_type="application/x-npy"),),
    facts=CalibrationFacts(samples=1),
)
GOLDEN_ARTIFACT = "sha256:15462fdd37c7e16ef777f8a46371af1587908b30a45752f7c4d9b521d6883f1b"


def test_golden_digests_do_not_move():
    assert ARTIFACT.digest == GOLDEN_ARTIFACT


def test_facts_enter_an_artifact_s_digest():
    assert ARTIFACT.model_copy(update={"facts": CalibrationFacts(samples=2)}).digest != ARTIFACT.digest


def test_facts_are_of_their_kind_and_held_against_it():
    artifact = Artifact.model_validate_json(json.dumps(EVALUATION))
    assert isinstance(artifact.facts, EvaluationFacts)
    assert json.loads(artifact.model_dump_json()) == EVALUATION
    wrong = {**EVALUATION, "facts": {**EVALUATION["facts"], "samples": "3"}}
    with pytest.raises(ValidationError, match="samples"):
        Artifact.model_validate_json(json.dumps(wrong))
    with pytest.raises(ValidationError):
        Artifact.model_validate_json('{"files": [], "facts": {"samples": 3}}')


def test_what_nothing_knows_is_read_and_written_as_it_stands():
    document = {"files": [], "facts": {"kind": "lithograph", "stones": [1, {"size": None}]}}
    artifact = Artifact.model_validate_json(json.dumps(document))
    assert (type(artifact.facts), artifact.kind) == (PlainFacts, "lithograph")
    assert json.loads(artifact.model_dump_json()) == document
    again = Output.model_validate_json(Output.of(artifact).model_dump_json())
    assert again.facts == artifact.facts
    assert again.digest == artifact.digest
