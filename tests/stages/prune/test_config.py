import json

import pytest
from pydantic import ValidationError

from stages.prune.config import PruneConfig, ScanConfig


@pytest.mark.parametrize(
    "settings",
    [{"ratio": 1.0}, {"ratio": -0.1}, {"round_to": 0}, {"min_channels": 0}, {"criterion": "l3"}, {"ration": 0.5}],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        PruneConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"criterion": "l2", "samples": 5}, "samples is for apoz, hessian, obs and taylor"),
        ({"criterion": "lamp", "data_split": "train"}, "l?amp looks at no data"),
        ({"criterion": "taylor", "reduction": "max"}, "nothing to reduce"),
    ],
)
def test_settings_that_a_criterion_does_not_take(settings, message):
    with pytest.raises(ValueError, match=message):
        PruneConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 0.5, "macs": 0.5}, "ratio and macs say the same thing"),
        ({"layers": {"a": 0.5}, "thresholds": {"a": 1.0}}, "layers and thresholds say the same thing"),
        ({"layers": {"a": 0.5}, "scope": "layer"}, "leave scope out"),
        ({"layers": {"a": 1.0}}, "less than 1"),
        ({"macs": 0}, "greater than 0"),
        ({"scan": {"ratios": [0.5]}}, "scan is for scope: sensitivity"),
        ({"scope": "layer", "compete": "all"}, "compete is for scope: global"),
        ({"criterion": "obs", "search": 50}, "search is for scope: loss"),
        ({"layers": {"a": 0.5}, "compete": "isomorphic"}, "compete is for scope: global"),
        ({"compete": "none"}, "isomorphic"),
        ({"scope": "loss"}, "which l2 does not predict: hessian, obs and taylor do"),
        ({"scope": "loss", "criterion": "lamp"}, "which lamp does not predict"),
        ({"scope": "loss", "criterion": "obs", "compete": "all"}, "compete is for scope: global"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(ValueError, match=message):
        PruneConfig.model_validate_json(json.dumps(settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"criterion": "taylor"}, "not by taylor"),
        ({"macs": 0.5}, "macs is for method: structured"),
        ({"compete": "all"}, "compete is for method: structured"),
        ({"scope": "sensitivity"}, "scope sensitivity is for"),
        ({"scope": "loss"}, "scope loss is for"),
        ({"sparsity": {"count": 5}, "ratio": 0.5}, "leave ratio"),
        ({"sparsity": {"pattern": "2:4"}, "ratio": 0.6}, "2:4 makes half"),
        ({"sparsity": {"pattern": "2:4", "schedule": "polynomial"}}, "at once or not at all"),
        ({"sparsity": {"pattern": "block"}, "scope": "global"}, "layer by layer"),
        ({"method": "structured", "sparsity": {"count": 5}}, "sparsity is for method: unstructured"),
        ({"method": "structured", "criterion": "magnitude"}, "magnitude is for method: unstructured"),
    ],
)
def test_settings_of_the_other_method_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        PruneConfig.model_validate({"method": "unstructured", **settings})


@pytest.mark.parametrize(
    "wrong",
    [
        {"round_to": "auto"},
        {"latency": 0.5},
        {"measure_on": {"target": "cpu"}},
        {"round_to": "often", "measure_on": {"target": "cpu"}},
        {"latency": 0.5, "macs": 0.5, "measure_on": {"target": "cpu"}},
        {"macs": 0.5, "tolerance": 0.1},
        {"round_to": "auto", "measure_on": {"target": "cpu", "scheme": "dynamic"}},
        {"round_to": "auto", "measure_on": {"target": "cpu", "mixed": True, "scheme": "float32"}},
        {"round_to": "auto", "measure_on": {"target": "cpu", "mixed": True, "format": "onnx"}},
    ],
)
def test_settings_that_say_nothing_or_too_much_are_refused(wrong):
    with pytest.raises(ValidationError):
        PruneConfig.model_validate(wrong)


def test_the_scan_ranks_and_leaves_out_as_pruning_does():
    config = PruneConfig(scope="sensitivity", criterion="bn_scale", exclude=("head",))
    assert (config.scan_or_default.criterion, config.scan_or_default.exclude) == ("bn_scale", ("head",))
    asked = PruneConfig(scope="sensitivity", criterion="bn_scale", scan=ScanConfig(criterion="l2", ratios=(0.3,)))
    assert (asked.scan_or_default.criterion, asked.scan_or_default.ratios) == ("l2", (0.3,))


@pytest.mark.parametrize(
    ("settings", "competition"),
    [
        ({}, "all"),
        ({"macs": 0.5}, "all"),
        ({"normalisation": "none"}, "isomorphic"),
        ({"macs": 0.5, "compete": "isomorphic"}, "isomorphic"),
        ({"criterion": "taylor", "normalisation": "mean"}, "all"),
        ({"criterion": "taylor", "ratio": 0.5}, "isomorphic"),
        ({"criterion": "hessian", "macs": 0.5}, "all"),
        ({"criterion": "hessian", "macs": 0.5, "compete": "isomorphic"}, "isomorphic"),
        ({"criterion": "lamp"}, "all"),
        ({"criterion": "random"}, "all"),
        ({"criterion": "taylor", "compete": "all"}, "all"),
        ({"scope": "layer"}, None),
        ({"layers": {"a": 0.5}}, None),
        ({"method": "unstructured", "scope": "global"}, None),
    ],
)
def test_who_competes_follows_from_what_scores_compare(settings, competition):
    assert PruneConfig.model_validate(settings).competition == competition
