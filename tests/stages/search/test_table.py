from __future__ import annotations

from pipeline.records.metrics import SIZE
from stages.devices.metrics import INSTRUCTIONS, LATENCY
from stages.search.table import said, text_of
from stages.search.verdict import Foreseen


def test_costs_are_said_in_their_units():
    assert said(LATENCY, 0.0634) == "0.063 ms"
    assert said(SIZE, 41_200.0) == "41.2 kB"
    assert said(INSTRUCTIONS, 9.1e6) == "9.1 M"


def test_each_point_has_a_row_and_the_chosen_one_an_arrow(answer):
    lines = text_of(answer).splitlines()
    assert lines[0].split() == ["file", "accuracy", "lost", "latency_p50_ms", "size", "against", "the", "source's"]
    assert lines[1].split() == ["source,", "validation", "90.00"]
    first = next(line for line in lines if line.startswith("A "))
    chosen = next(line for line in lines if line.startswith("B  ←"))
    assert "89.80 ± 1.3" in first
    assert first.split()[5:] == ["0.2", "0.900", "ms", "40.0", "kB", "×1.11", "faster", "[1.09,", "1.14]"]
    assert "×2.00 less [exact]" in chosen
    assert answer.verdict in lines
    assert any("secateur run B.yaml" in line for line in lines)


def test_what_is_foreseen_has_a_table_that_says_what_was_measured(answer):
    measured = Foreseen(
        recipe="B.yaml", budget="macs 0.45", share=0.45, error=0.123, agreement=0.875, fitted=0.88, letter="B"
    )
    only = measured.model_copy(
        update={"recipe": "x/macs-0.1.yaml", "budget": "macs 0.1", "share": 0.1, "fitted": None, "letter": None}
    )
    text = text_of(answer.model_copy(update={"foreseen": (measured, only)}))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "macs 0.45 0.450 0.123 87.5 88.00 measured: B B.yaml" in lines
    assert "macs 0.1 0.100 0.123 87.5 foreseen only macs-0.1.yaml" in lines
    assert "foreseen" not in text_of(answer)
