import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Gate, Recipe
from pipeline.records.facts import KerasFacts
from pipeline.running.gates import check_macs, hold, verdict_of, with_comparisons

METRICS = {"source.accuracy": 0.9, "source.params": 100.0, "tflite/int8.accuracy": 0.88, "tflite/int8.params": 40.0}


def verdict(gate, value, interval=None):
    intervals = {"a.m": interval} if interval else {}
    return verdict_of(hold([gate], {"a.m": value}, intervals))


@pytest.mark.parametrize(
    ("value", "interval", "expected"),
    [
        (0.4, None, "pass"),
        (0.5, None, "pass"),
        (0.6, None, "fail"),
        (0.4, (0.35, 0.45), "pass"),
        (0.4, (0.35, 0.55), "inconclusive"),
        (0.6, (0.55, 0.65), "fail"),
    ],
)
def test_a_gate_wants_all_of_the_interval_on_its_side(value, interval, expected):
    assert verdict(Gate(metric="a.m", max=0.5), value, interval) == expected


@given(st.floats(-10, 10), st.floats(0, 5), st.floats(-10, 10))
def test_min_is_max_seen_from_the_other_side(value, width, limit):
    interval = (value - width, value + width)
    mirrored = (-value - width, -value + width)
    below = verdict(Gate(metric="a.m", max=limit), value, interval)
    assert below == verdict(Gate(metric="a.m", min=-limit), -value, mirrored)


def test_both_bounds_of_a_gate_hold():
    results = hold([Gate(metric="a.m", min=0.1, max=0.5)], {"a.m": 0.05}, {})
    assert [(r.op, r.verdict) for r in results] == [("max", "pass"), ("min", "fail")]
    assert verdict_of(results) == "fail"


def test_what_follows_from_the_metrics_is_computed_against_the_source():
    flat = with_comparisons(METRICS)
    assert flat["tflite/int8.accuracy_drop"] == pytest.approx(0.02)
    assert flat["tflite/int8.params_ratio"] == 0.4
    assert "source.accuracy_drop" not in flat
    assert METRICS.items() <= flat.items()


def test_a_gate_on_a_metric_that_the_run_lacks_fails_and_the_others_are_judged():
    results = hold([Gate(metric="a.gone", max=1), Gate(metric="a.m", max=1)], {"a.m": 0.5}, {})
    assert [(r.metric, r.value, r.verdict) for r in results] == [("a.gone", None, "fail"), ("a.m", 0.5, "pass")]
    assert verdict_of(results) == "fail"


def test_a_gate_without_a_bound_is_none():
    with pytest.raises(ValueError, match="max or min"):
        Gate(metric="a.m")


def test_shares_drop_and_errors_are_divided():
    metrics = {"source.top_5": 0.9, "a.top_5": 0.8, "source.mse": 2.0, "a.mse": 3.0, "source.mae": 0.0, "a.mae": 1.0}
    compared = with_comparisons(metrics | {"a.f1_of_mine": 0.5, "source.f1_of_mine": 0.6})
    assert compared["a.top_5_drop"] == pytest.approx(0.1)
    assert compared["a.mse_ratio"] == 1.5
    assert {name for name in compared if name.startswith("source.")} == {
        *("source.top_5", "source.mse", "source.mae", "source.f1_of_mine")
    }
    assert not {"a.mae_ratio", "a.f1_of_mine_drop"} & compared.keys()


def test_what_follows_is_told_for_each_output():
    flat = with_comparisons(
        {
            "source.accuracy[kind]": 0.9,
            "source.mse[a.b]": 2.0,
            "prune[1].accuracy[kind]": 0.8,
            "prune[1].mse[a.b]": 3.0,
        }
    )
    assert flat["prune[1].accuracy_drop[kind]"] == pytest.approx(0.1)
    assert flat["prune[1].mse_ratio[a.b]"] == 1.5


def test_a_metric_that_was_lost_in_a_failure_is_no_pass():
    gates = [Gate(metric="gone.m", max=1, min=0), Gate(metric="a.m", max=1)]
    results = hold(gates, {"a.m": 0.5}, {}, failed=True)
    assert [(r.metric, r.value, r.verdict) for r in results] == [
        ("gone.m", None, "inconclusive"),
        ("gone.m", None, "inconclusive"),
        ("a.m", 0.5, "pass"),
    ]


def test_lower_bounds_of_macs_have_no_ratio_and_no_gate(tmp_path):
    metrics = {"source.macs": 4.0, "source.macs_unknown": 1.0, "prune.macs": 2.0, "prune.macs_unknown": 1.0}
    assert "prune.macs_ratio" not in with_comparisons(metrics)
    assert with_comparisons({"source.macs": 4.0, "prune.macs": 2.0})["prune.macs_ratio"] == 0.5
    path = tmp_path / "r.yaml"
    gates = "gates: [{metric: prune.params_ratio, max: 1}, {metric: prune.macs_ratio, max: 0.5}]"
    path.write_text(f"name: r\nmodel: m.keras\nstages: [load, prune]\n{gates}\n")
    facts = KerasFacts(params=1, macs=4, inputs=(), outputs=(), sparsity=0.0)
    check_macs(Recipe.load(path), facts)
    with pytest.raises(RecipeError, match=r"gates\[1\]\.metric: the MACs of own \(Own: While\) are unknown"):
        check_macs(Recipe.load(path), facts.model_copy(update={"macs_unknown": ("own (Own: While)",)}))
