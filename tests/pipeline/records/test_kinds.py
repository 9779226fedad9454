"""Kinds are open: facts are read by the class that their kind's entry point names, unknown ones as plain data."""

import json

import pytest
from pydantic import ValidationError

from pipeline.contracts.discovery import stages
from pipeline.records.artifacts import Artifact, PlainFacts
from pipeline.records.facts import EvaluationFacts
from pipeline.records.kinds import facts_class, kinds
from pipeline.records.manifest import Output

EVALUATION = {"files": [], "facts": {"kind": "evaluation", "samples": 3, "metrics": {"accuracy": 0.5}}}


def test_every_kind_that_stages_take_or_give_is_known_by_its_name():
    used = {kind for stage in stages().values() for wanted in stage.inputs.values() for kind in wanted.kinds}
    used |= {kind for stage in stages().values() for kind in stage.outputs}
    assert used <= set(kinds())
    for kind in kinds():
        assert facts_class(kind).model_fields["kind"].default == kind


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
