import pytest

from pipeline.records.declared import comparison
from pipeline.records.metrics import metric_and_output, name_and_metric, of_output


@pytest.mark.parametrize(
    ("full", "name", "metric"),
    [
        ("source.accuracy", "source", "accuracy"),
        ("prune[1].accuracy_drop", "prune[1]", "accuracy_drop"),
        ("tflite/int8@my.board.latency_ratio", "tflite/int8@my.board", "latency_ratio"),
        ("prune[1].accuracy[age]", "prune[1]", "accuracy[age]"),
        ("source.mse[head.age/2]", "source", "mse[head.age/2]"),
        ("accuracy", "", ""),
    ],
)
def test_names_come_apart(full, name, metric):
    assert name_and_metric(full) == (name, metric)


@pytest.mark.parametrize(("metric", "output"), [("accuracy", None), ("mse", "age"), ("mse", "a[0]")])
def test_an_output_goes_in_and_comes_out(metric, output):
    assert metric_and_output(of_output(metric, output)) == (metric, output)


@pytest.mark.parametrize(
    ("metric", "compared"),
    [
        ("accuracy", "accuracy_drop"),
        ("top_5[kind]", "top_5_drop[kind]"),
        ("mse[age]", "mse_ratio[age]"),
        ("macs", "macs_ratio"),
        ("latency_ms", None),
    ],
)
def test_what_a_metric_is_compared_by(metric, compared):
    assert comparison(metric) == compared
