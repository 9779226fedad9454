from __future__ import annotations

from pipeline.records.weight_types import narrow_share
from stages.formats.conversion import doubt_about
from stages.formats.tflite.facts import TFLiteFacts


def test_a_scheme_that_did_nothing_is_told() -> None:
    facts = TFLiteFacts(scheme="dynamic", inputs=(), outputs=(), operators={}, weights={"float32": 99, "int8": 1})
    assert narrow_share(facts) == 0.01
    says = "only 1% of the weights are in int8: the quantizer has left the others in float32"
    assert doubt_about(facts) == says
    facts = facts.model_copy(update={"scheme": "int4_dynamic", "weights": {"float32": 1, "int4": 1, "int8": 98}})
    assert str(doubt_about(facts)).endswith(
        "only 1% of the weights are in int4: the quantizer has left the others in float32, int8"
    )
