import json

from stages.keras.regression.refit import LayerFit
from stages.reconstruct.report import ReconstructionReport

FIT = LayerFit(layer="conv", unknowns=9, rows=100, error_before=0.5, error_after=0.25, kept=True)


def report(**changes):
    values = {"samples": 50, "held_out": 10, "output_error_before": 1.0, "output_error_after": 0.5, "not_fitted": {}}
    return ReconstructionReport(**values | {"layers": (FIT,)} | changes)


def test_equal_reports_are_equal_bytes_and_come_back_whole():
    data = report().to_json()
    assert ReconstructionReport.model_validate_json(data) == report()
    assert ReconstructionReport.model_validate_json(data).to_json() == data
    assert list(json.loads(data)) == sorted(json.loads(data))
    assert json.loads(data)["layers"][0]["taken_back"] is False
    assert report(samples=51).to_json() != data
