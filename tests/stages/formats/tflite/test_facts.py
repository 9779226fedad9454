from stages.formats.calibration.choice import RangeChoice
from stages.formats.tflite.facts import TFLiteFacts


def test_what_auto_took_is_a_note() -> None:
    plain = TFLiteFacts(scheme="int8", inputs=(), outputs=(), operators={})
    assert plain.notes == ()
    choice = RangeChoice(method="mse", errors={"min_max": 0.5, "mse": 0.25}, samples=8)
    chosen = plain.model_copy(update={"ranges": choice})
    assert TFLiteFacts.model_validate_json(chosen.model_dump_json()).notes == (choice.said,)
    assert "took mse" in choice.said
