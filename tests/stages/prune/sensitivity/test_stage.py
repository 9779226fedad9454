from stages.prune.config import ScanConfig
from stages.prune.sensitivity.scan import SensitivityReport
from stages.prune.sensitivity.stage import REPORT_FILE, SensitivityStage

CONFIG = ScanConfig(ratios=(0.9, 0.5), scan_samples=20)


def test_the_stage_writes_a_report_and_asks_for_its_splits(mini_xception, make_context, split):
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
