"""Check that every number of a whole run is declared: with its unit, and whether less of it is better."""

from pipeline.records.declared import declared, every_metric
from pipeline.records.metrics import name_and_metric

NEITHER = {"epochs", "removed", "folded", "channels_removed", "baseline_p50_ms", "sparsity"}


def test_every_metric_of_a_run_has_a_unit_and_a_direction(finished):
    manifest = finished[2]
    names = {name_and_metric(full)[1] for full in manifest["metrics"]}
    names |= {name for entry in manifest["stages"] for name in entry["metrics"]}
    assert {"accuracy", "accuracy_drop", "macs_ratio", "latency_p50_ms", "export_difference", "cosine"} <= names
    found = {name: declared(name) for name in names}
    assert [name for name, metric in found.items() if metric is None] == []
    assert {name for name, metric in found.items() if metric.lower_is_better is None} <= NEITHER
    units = {"ms", "bytes", "share", "ratio", "count", "dB"}
    assert {metric.unit for metric in found.values()} - {""} == units
    for ending, unit in (("_ms", "ms"), ("_bytes", "bytes"), ("_ratio", "ratio"), ("_db", "dB")):
        assert all(metric.unit == unit for name, metric in every_metric().items() if name.endswith(ending))
