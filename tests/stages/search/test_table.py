from __future__ import annotations

from pipeline.records.metrics import SIZE
from stages.devices.metrics import INSTRUCTIONS, LATENCY
from stages.search.budgets import Budget
from stages.search.foreseen import Foreseen
from stages.search.table import said, text_of


def test_costs_are_said_in_their_units():
    assert said(LATENCY, 0.0634) == "0.063 ms"
    assert said(SIZE, 41_200.0) == "41.2 kB"
    assert said(INSTRUCTIONS, 9.1e6) == "9.1 M"


def test_each_point_has_a_row_and_the_chosen_one_an_arrow(answer):
    lines = text_of(answer).splitlines()
    assert lines[0].split() == ["file", "accuracy", "lost", "latency_p50_ms", "size", "against", "the", "source's"]
    assert lines[1].split() == ["source,", "validation", "90.00", "±", "3.0"]
    first = next(line for line in lines if line.startswith("A "))
    chosen = next(line for line in lines if line.startswith("B  ←"))
    assert "89.80 ± 1.3" in first
    assert first.split()[5:] == ["0.2", "0.900", "ms", "40.0", "kB", "×1.11", "faster", "[1.09,", "1.14]"]
    assert "×2.00 less [exact]" in chosen
    assert answer.verdict in lines
    assert any("secateur run B.yaml" in line for line in lines)


def test_it_says_how_far_candidates_got(answer, trial):
    late = trial(2, 0.5, fitted=0.6).model_copy(update={"ended": "pruned", "reason": "no time to train it"})
    trials = (
        trial(0, 0.5, fitted=0.7, trained=0.8),
        trial(1, 0.4, fitted=0.6).model_copy(update={"ended": "pruned"}),
        late,
        trial(3, 0.1).model_copy(update={"ended": "failed", "reason": "too small"}),
    )
    lines = text_of(answer.model_copy(update={"trials": trials, "finalists": trials[:1]})).splitlines()
    counts = "3 pruned and re-fitted · 1 given up then · 1 with no time to train · 1 trained · 1 measured · 1 failed"
    assert f"candidates: {counts}" in lines


def test_what_is_foreseen_has_a_table_that_says_what_was_measured(answer):
    one = Foreseen(name="macs 0.4", settings={}, budget=0.4, share=0.39, error=0.123, agreement=0.875)
    measured = Budget(recipe="B.yaml", foreseen=one, level="measured", accuracy=0.88, letter="B")
    fitted = measured.model_copy(update={"level": "fitted", "letter": None, "recipe": "x/macs-0.4.yaml"})
    only = fitted.model_copy(update={"level": None, "accuracy": None})
    text = text_of(answer.model_copy(update={"budgets": (measured, fitted, only)}))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "macs 0.4 0.390 0.123 87.5 88.00 measured B B.yaml" in lines
    assert "macs 0.4 0.390 0.123 87.5 88.00 fitted macs-0.4.yaml" in lines
    assert "macs 0.4 0.390 0.123 87.5 foreseen only macs-0.4.yaml" in lines
    assert "foreseen" not in text_of(answer)
