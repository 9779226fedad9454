"""Format the answer as text for a terminal, Markdown for a pull request, JUnit XML, and JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal
from xml.etree import ElementTree as ET

from pipeline.reports.table import aligned
from stages.commands.comparing.result import ComparisonReport, MetricResult, PairResult
from stages.commands.comparing.words import VERDICTS, basis, both, bound, changed, headline, remarks, sentence

Form = Literal["text", "json", "markdown", "github", "junit"]
HEADS = ("", "model", "metric", "change", "baseline → candidate", "allowed", "rests on")
NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")  # XML 1.0, section 2.2


def rows(report: ComparisonReport) -> list[tuple[str, ...]]:
    """Return a line per number: verdict, model, metric, change, both sides, bound, basis."""
    return [_row(pair, result) for pair in report.pairs for result in pair.metrics]


def _row(pair: PairResult, result: MetricResult) -> tuple[str, ...]:
    cells = (VERDICTS[result.verdict], pair.name, result.name, changed(result), both(result))
    return (*cells, bound(result), basis(result))


def text_of(report: ComparisonReport) -> str:
    """Format for a terminal: the verdict, a table (under each model's name, if there are several), remarks."""
    several = len(report.pairs) > 1
    lines = aligned([(row[0], *row[2:]) for row in rows(report)], words=range(len(HEADS))).splitlines()
    blocks = [headline(report), ""]
    for pair in report.pairs:
        own, lines = lines[: len(pair.metrics)], lines[len(pair.metrics) :]
        blocks += [pair.name, *own, ""] if several else [*own, ""]
    return "\n".join([*blocks, *remarks(report)]).rstrip("\n")


def markdown_of(report: ComparisonReport) -> str:
    """Format for a pull request: a heading, a table, remarks as a list."""
    lines = [f"### {_cell(headline(report))}", "", _line(HEADS), _line(["---"] * len(HEADS))]
    lines += [_line(row) for row in rows(report)]
    notes = remarks(report)
    return "\n".join([*lines, *(["", *(f"- {_cell(text)}" for text in notes)] if notes else [])])


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    """Escape text so that it can't leave its cell, whatever a file is called."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", text.replace("\r", " ").replace("\n", " "))


def junit_of(report: ComparisonReport) -> str:
    """Format as JUnit XML: a suite per model, a case per number with a verdict; an inconclusive one is an error."""
    cases = [(pair, result) for pair in report.pairs for result in pair.held()]
    suites = ET.Element("testsuites", {"name": _xml("secateur compare"), **_totals(cases)})
    for pair in report.pairs:
        own = [(pair, result) for result in pair.held()]
        suite = ET.SubElement(suites, "testsuite", {"name": _xml(pair.name), **_totals(own)})
        for _, result in own:
            case = ET.SubElement(suite, "testcase", {"classname": _xml(pair.name), "name": _xml(result.name)})
            failed = {"regression": "failure", "inconclusive": "error"}.get(str(result.verdict))
            if failed:
                part = ET.SubElement(case, failed, {"type": str(result.verdict), "message": _xml(changed(result))})
                part.text = _xml(sentence(pair, result))
            else:
                ET.SubElement(case, "system-out").text = _xml(sentence(pair, result))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode")


def _totals(cases: list[tuple[PairResult, MetricResult]]) -> dict[str, str]:
    verdicts = [result.verdict for _, result in cases]
    numbers = {
        "tests": len(cases),
        "failures": verdicts.count("regression"),
        "errors": verdicts.count("inconclusive"),
    }
    return {name: str(number) for name, number in numbers.items()}


def _xml(text: str) -> str:
    return NOT_XML.sub("?", text)


def json_of(report: ComparisonReport) -> str:
    """Format everything as JSON."""
    return report.model_dump_json(indent=1)


FORMS: Mapping[str, Callable[[ComparisonReport], str]] = {
    "text": text_of,
    "json": json_of,
    "markdown": markdown_of,
    "junit": junit_of,
}
