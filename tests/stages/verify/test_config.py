"""Check which bounds of a scheme hold beside those that a recipe sets."""

from __future__ import annotations

from stages.verify.config import Bounds, Tolerances


def test_whoever_names_the_cosine_judges_the_error_by_it() -> None:
    loose = Tolerances.model_validate_json('{"int8": {"min_cosine": null}, "dynamic": {"min_sqnr_db": 5}}')
    assert loose.int8 == Bounds()
    assert loose.dynamic == Bounds(min_cosine=0.95, min_sqnr_db=5.0, min_decided_agreement=0.9)
