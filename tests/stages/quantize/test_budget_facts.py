from __future__ import annotations

from pipeline.records.schemes import Budget
from stages.quantize.budget_facts import BudgetFacts, BudgetTry


def test_the_note_says_what_was_taken_and_what_int8_alone_would_be() -> None:
    plain = BudgetTry(kept_float=(), kept_int16=(), size_bytes=8640, cost=0.9, accuracy_drop=None, noise=0.02)
    taken = BudgetTry(
        kept_float=("a", "b"), kept_int16=("c",), size_bytes=9928, cost=0.95, accuracy_drop=0.001, noise=0.0005
    )
    facts = BudgetFacts(budget=Budget(size_bytes=10_000), cost="latency_ratio", tries=(plain, taken), chosen=1)
    (note,) = facts.notes
    assert note == (
        "budget: of 2 files the best keeps a, b in float32 and c in int16x8: 9,928 bytes, "
        "0.950 of float32's cost (latency_ratio), loses 0.0010 of accuracy, noise 5.00e-04; "
        "int8 alone keeps no layer: 8,640 bytes, 0.900 of float32's cost (latency_ratio), noise 2.00e-02"
    )
