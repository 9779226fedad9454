"""Check that metrics are found by name, whoever declares them, and that wrong declarations are refused."""

from types import SimpleNamespace

import pytest

from pipeline.contracts.discovery import stages, target_drivers
from pipeline.errors import SecateurError
from pipeline.records import declared as module
from pipeline.records.declared import comparison, declared, every_metric, is_requested, metrics_of_stages, requested
from pipeline.records.metrics import Metric


def test_every_declaration_of_a_stage_a_format_and_a_target_is_found():
    own = [metric for stage in stages().values() for metric in stage.metrics]
    of_targets = [metric for driver in target_drivers().values() for metric in driver().metrics]
    assert {metric.name for metric in (*own, *of_targets)} == set(every_metric())
    assert {"accuracy", "arena_bytes", "instructions", "latency_p99_ms"} <= set(every_metric())
    assert "instructions" not in metrics_of_stages()


def test_what_is_compared_and_judged_has_a_direction_and_what_is_related_exists():
    for metric in every_metric().values():
        assert metric.of is None or metric.of in every_metric(), metric
        assert metric.lower_is_better is not None or not (metric.judged_as or metric.against_source), metric


@pytest.mark.parametrize(
    ("name", "unit", "lower"),
    [
        ("top_5", "share", False),
        ("top_5[kind]", "share", False),
        ("top_5_drop", "share", True),
        ("accuracy_drop[age]", "share", True),
        ("mse_ratio", "ratio", True),
        ("params_ratio", "ratio", True),
        ("accuracy_drop_reference", "share", True),
        ("latency_p50_ms", "ms", True),
        ("estimated_npu_share", "share", False),
        ("epochs", "count", None),
    ],
)
def test_a_name_tells_its_unit_and_direction(name, unit, lower):
    found = declared(name)
    assert (found.name, found.unit, found.lower_is_better) == (name.partition("[")[0], unit, lower)


@pytest.mark.parametrize("name", ["top_0", "top_K5", "accuracy_ratio", "mse_drop", "size_bytes_ratio", "my_spread"])
def test_nothing_is_declared_by_likeness(name):
    assert declared(name) is None
    assert comparison(name) is None


def test_what_data_metrics_can_name():
    names = ("accuracy", "top_3", "auc", "macro_f1", "confusion_matrix", "mse", "mae")
    assert [name for name in (*names, "params", "accuracy_drop_reference", "top_0") if is_requested(name)] == [*names]
    assert len(requested()) == len(names)


def test_a_comparison_is_of_what_was_lost():
    accuracy, error = declared("accuracy"), declared("mse")
    assert accuracy.worsening(0.9, 0.7) == pytest.approx(0.2)
    assert error.worsening(1.0, 3.0) == 2.0
    with pytest.raises(ValueError, match="needs a direction"):
        Metric("shine", "", lower_is_better=None, judged_as="shine")


def test_what_was_lost_of_shares_of_a_count_is_at_most_the_bound_that_it_equals():
    """All of these differences are 0.01 exactly in counts; as floats many are more."""
    accuracy = Metric("accuracy", "share", lower_is_better=False)
    for count in (100, 1_000, 10_000):
        step = count // 100
        assert all(accuracy.worsening(right / count, (right - step) / count) == 0.01 for right in range(step, count))
    assert accuracy.worsening(0.5, 0.5 - 1e-6) == 1e-6
    assert accuracy.worsening(0.0201, 0.0) > 0.02


@pytest.mark.parametrize(
    ("declaration", "words"),
    [
        ("shine", "the stage other declares the metric 'shine' without what it is"),
        (Metric("params", "bytes", lower_is_better=True), "the stage other declares the metric params otherwise"),
    ],
)
def test_wrong_declarations_are_refused_with_whose_they_are(monkeypatch, declaration, words):
    other = SimpleNamespace(metrics=(declaration,))
    monkeypatch.setattr(module, "instances_of", lambda *_: {**stages(), "other": other})
    with pytest.raises(SecateurError, match=words):
        metrics_of_stages.__wrapped__()
