import json
import re

import numpy as np
import pytest

from pipeline.store.seals import sealed, unsealed
from stages.prune.config import ScanConfig
from stages.prune.sensitivity.scan import scan

CONFIG = ScanConfig(ratios=(0.9, 0.5), scan_samples=20)


def test_each_group_at_each_ratio_alone(mini_xception, tmp_path, split):
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


def test_a_killed_scan_goes_on_from_its_last_point(mini_xception, tmp_path, split):
    data = split(mini_xception)
    whole = scan(mini_xception, CONFIG, data, None, 0, tmp_path).report
    file = tmp_path / "points.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)

    class Killed(Exception):
        pass

    def killed(done, *_):
        if done == 5:
            raise Killed

    file.unlink()
    with pytest.raises(Killed):
        scan(mini_xception, CONFIG, data, None, 0, tmp_path, killed)
    assert len(file.read_text().splitlines()) == 6  # the baseline and five points
    file.write_bytes(b"".join(lines[:4]) + lines[4][:9])  # and one in the middle of a write
    marked = json.loads(unsealed(lines[3].strip())) | {"accuracy": 0.125}
    text = file.read_bytes().replace(lines[3], sealed(json.dumps(marked).encode()) + b"\n")
    damaged = re.sub(rb'"accuracy": [0-9.]+', b'"accuracy": 0.375', lines[2])
    file.write_bytes(text.replace(lines[2], damaged))
    again = scan(mini_xception, CONFIG, data, None, 0, tmp_path)
    assert again.resumed
    assert 0.125 in [point.accuracy for group in again.report.groups for point in group.points]  # known, not measured
    assert 0.375 not in [point.accuracy for group in again.report.groups for point in group.points]
    assert [g.name for g in again.report.groups] == [g.name for g in whole.groups]
    assert again.report.groups[-1] == whole.groups[-1]
