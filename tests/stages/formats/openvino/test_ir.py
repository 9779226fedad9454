"""Graphs of OpenVINO models as they stand in XML files written by hand: no OpenVINO is needed to read them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from pipeline.errors import ModelError
from stages.formats.openvino.ir import (
    data_file,
    graph_of,
    in_normal_form,
    metadata_in,
    operators_counted,
    operators_of,
    reads_in,
    weights_in,
)

GRAPH = """<?xml version="1.0"?>
<net name="tiny" version="11">
  <layers>
    <layer id="0" name="x" type="Parameter"><output><port id="0" names="x"/></output></layer>
    <layer id="1" name="Constant_17" type="Const"><data element_type="i8" offset="0" shape="3, 4" size="12"/></layer>
    <layer id="2" name="Constant_18" type="Const"><data element_type="f32" offset="12" shape="1, 4" size="16"/></layer>
    <layer id="3" name="MatMul_9" type="MatMul"><output><port id="2" names="b,a"/></output></layer>
    <layer id="4" name="Add_11" type="Add"/>
    <layer id="5" name="y" type="Result"/>
  </layers>
  <edges>
    <edge from-layer="0" to-layer="3"/><edge from-layer="1" to-layer="3"/>
    <edge from-layer="3" to-layer="4"/><edge from-layer="2" to-layer="4"/><edge from-layer="4" to-layer="5"/>
  </edges>
  <rt_info><Runtime_version value="2026"/></rt_info>
</net>
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model.xml").write_text(GRAPH)
    (tmp_path / "model.bin").write_bytes(bytes(28))
    return tmp_path / "model.xml"


def test_what_computes_is_listed_with_what_it_reads(model: Path) -> None:
    root = graph_of(model)
    assert [layer.get("type") for layer in operators_of(root)] == ["MatMul", "Add"]
    assert reads_in(root) == [frozenset(), {0}]
    assert operators_counted(root) == {"Add": 1, "MatMul": 1}
    assert weights_in(root) == {"int8": 12}  # a bias is no kernel


def test_equal_graphs_become_equal_bytes_which_say_what_was_given_and_no_version(model: Path) -> None:
    renamed = GRAPH.replace("Constant_17", "Constant_401").replace("MatMul_9", "MatMul_77").replace("b,a", "a,b")
    said = {"scheme": "int8", "labels": '["a<b"]'}
    made = in_normal_form(graph_of(model), said)
    assert made == in_normal_form(ET.fromstring(renamed), dict(reversed(said.items())))
    assert made != in_normal_form(ET.fromstring(GRAPH.replace("Add", "Multiply")), said)
    again = ET.fromstring(made)
    assert metadata_in(again) == said
    assert [layer.get("name") for layer in again.findall("layers/layer")][:4] == ["x", "Const_0", "Const_1", "MatMul_0"]
    assert b"2026" not in made


def test_the_data_beside_a_graph_is_as_long_as_it_reads(model: Path) -> None:
    assert data_file(model) == model.with_suffix(".bin")
    model.with_suffix(".bin").write_bytes(bytes(27))
    with pytest.raises(ModelError, match="has 27 bytes, and the graph reads 28"):
        data_file(model)
    model.with_suffix(".bin").unlink()
    with pytest.raises(ModelError, match=r"model\.bin, is missing"):
        data_file(model)


@pytest.mark.parametrize("text", [GRAPH[:200], "<net/>", GRAPH.replace("net", "nut")])
def test_a_damaged_graph_is_told(model: Path, text: str) -> None:
    model.write_text(text)
    with pytest.raises(ModelError, match="damaged") as caught:
        graph_of(model)
    assert caught.value.where == str(model)
