import xml.etree.ElementTree as ET

import pytest

from stages.commands.comparing.forms import json_of, junit_of, markdown_of, text_of
from stages.commands.comparing.result import ComparisonReport

EVIL = 'a|b<script>&"\x00\x1b[31m]`*\nend'


def test_text_has_the_verdict_first_and_fits(make_report):
    lines = text_of(make_report("regression")).splitlines()
    assert lines[0] == "REGRESSION  3f2a → 77ab: 1 of 2 worse"
    assert lines[2].split("  ")[0] == "REGRESSION"
    assert "1.083 [1.071, 1.094]" in lines[2]
    assert "≤ 1.05" in lines[2]
    assert lines[2].split("  ")[-1].strip() == "10 rounds"
    assert "0.031 → 0.034 ms" in lines[2]
    assert any(line.startswith("tflite/int8 latency@cpu: noise floor 0.6 %") for line in lines)
    assert "-0.40 points" in text_of(make_report("ok"))
    assert all(len(line) <= 100 for line in lines)
    assert "tflite/int8 latency@cpu: rounds that stand apart, and count: 10 (×1.500)" in lines
    assert "not compared: onnx/int8: only in 3f2a" in lines


@pytest.mark.parametrize(("verdict", "begins"), [("ok", "ok  "), ("inconclusive", "inconclusive  ")])
def test_the_other_verdicts(make_report, verdict, begins):
    assert text_of(make_report(verdict)).startswith(begins)


def test_json_is_the_report_itself(make_report):
    report = make_report("regression", "ok")
    assert ComparisonReport.model_validate_json(json_of(report)) == report


def test_a_cell_of_markdown_is_not_left(make_report):
    text = markdown_of(make_report("regression", name=EVIL))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3
    unescaped = [line.replace("\\|", "").count("|") for line in table]
    assert set(unescaped) == {8}
    assert "<script>" not in text


def test_junit_is_xml_that_counts(make_report):
    report = make_report("regression", "inconclusive", "ok", name=EVIL)
    root = ET.fromstring(junit_of(report))
    assert root.attrib == {"name": "secateur compare", "tests": "4", "failures": "1", "errors": "1"}
    (suite,) = root
    assert [[part.tag for part in case] for case in suite] == [["failure"], ["error"], ["system-out"], ["system-out"]]
    assert "1.083 [1.071, 1.094]" in suite[0][0].text
    assert suite[0][0].attrib["type"] == "regression"
