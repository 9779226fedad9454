import json

import numpy as np
import pytest

from pipeline.data import Preprocess, Split
from stages.prune.config import PruneConfig, ScanConfig
from stages.prune.sensitivity.scan import SensitivityReport, scan
from stages.prune.sensitivity.stage import REPORT_FILE, SensitivityStage


def split(model, count=24):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (count, 28, 28, 1)).astype(np.float32)
    return Split("validation", "sha256:0", x, np.argmax(model(x), axis=-1).astype(np.int64), Preprocess())


CONFIG = ScanConfig(ratios=(0.9, 0.5), scan_samples=20)


def test_each_group_at_each_ratio_alone(mini_xception, tmp_path):
    before = mini_xception.get_weights()
    heard = []
    found = scan(mini_xception, CONFIG, split(mini_xception), None, 0, tmp_path, lambda *told: heard.append(told))
    report = found.report
    assert report.baseline_accuracy == 1.0  # the labels are its own answers
    assert (report.samples, found.resumed) == (20, False)
    assert [[point.ratio for point in group.points] for group in report.groups] == [[0.5, 0.9]] * len(report.groups)
    assert all(0 <= point.accuracy <= 1 for group in report.groups for point in group.points)
    assert min(point.accuracy for group in report.groups for point in group.points) < 1
    assert [done for done, *_ in heard] == list(range(1, 2 * len(report.groups) + 1))
    for kept, now in zip(before, mini_xception.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)
    assert report.drops()[report.groups[0].name][0] == (0.5, 1.0 - report.groups[0].points[0].accuracy)


def test_a_killed_scan_goes_on_from_its_last_point(mini_xception, tmp_path):
    data = split(mini_xception)
    whole = scan(mini_xception, CONFIG, data, None, 0, tmp_path).report
    file = tmp_path / "points.jsonl"
    lines = file.read_text().splitlines(keepends=True)

    class Killed(Exception):
        pass

    def killed(done, *_):
        if done == 5:
            raise Killed

    file.unlink()
    with pytest.raises(Killed):
        scan(mini_xception, CONFIG, data, None, 0, tmp_path, killed)
    assert len(file.read_text().splitlines()) == 6  # the baseline and five points
    file.write_text("".join(lines[:4]) + lines[4][:9])  # and one in the middle of a write
    marked = json.loads(lines[3]) | {"accuracy": 0.125}
    file.write_text(file.read_text().replace(lines[3], f"{json.dumps(marked)}\n"))
    again = scan(mini_xception, CONFIG, data, None, 0, tmp_path)
    assert again.resumed
    assert 0.125 in [point.accuracy for group in again.report.groups for point in group.points]  # known, not measured
    assert [g.name for g in again.report.groups] == [g.name for g in whole.groups]
    assert again.report.groups[-1] == whole.groups[-1]


def test_the_stage_writes_a_report_and_asks_for_its_splits(mini_xception, make_context):
    data = split(mini_xception)
    stage = SensitivityStage()
    assert stage.splits(CONFIG) == ("validation",)
    assert stage.splits(ScanConfig(criterion="taylor")) == ("validation", "train")
    made = make_context(CONFIG, splits={"validation": data})
    made.inputs = {"model": made.write_model(mini_xception)}
    stage.requires(CONFIG, made.inputs)
    result = stage.run(made)
    stage.ensures(made, result)
    made.inputs = {"report": result.outputs[0]}
    report = SensitivityReport.model_validate_json(made.read("report", REPORT_FILE).read_bytes())
    assert result.outputs[0].facts.groups == len(report.groups)
    assert result.metrics["points"] == 2 * len(report.groups)
    assert made.progress[-1] == (result.metrics["points"],) * 2


def test_the_scan_ranks_and_leaves_out_as_pruning_does():
    config = PruneConfig(scope="sensitivity", criterion="bn_scale", exclude=("head",))
    assert (config.scan_or_default.criterion, config.scan_or_default.exclude) == ("bn_scale", ("head",))
    asked = PruneConfig(scope="sensitivity", criterion="bn_scale", scan=ScanConfig(criterion="l2", ratios=(0.3,)))
    assert (asked.scan_or_default.criterion, asked.scan_or_default.ratios) == ("l2", (0.3,))
