"""Test models of several files: found, checked, brought together, and never led out of their folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.errors import ModelError
from stages.formats.onnx.external_data import data_files
from stages.formats.registry import files_beside, whole_model


def test_a_model_of_one_file_has_none_beside_it(make_external: Callable[..., Path], tmp_path: Path) -> None:
    inside = tmp_path / "inside.onnx"
    onnx.save(onnx.load(make_external()), inside)
    assert data_files(inside) == ()
    (tmp_path / "flat").write_bytes(b"\x1c\x00\x00\x00TFL3 and no protobuf")
    assert files_beside(tmp_path / "flat") == ()
    (tmp_path / "empty").touch()
    assert files_beside(tmp_path / "empty") == ()
    assert whole_model("onnx-model", ["only"], lambda name: tmp_path / name, tmp_path / "never") == tmp_path / "only"
    assert not (tmp_path / "never").exists()


def test_data_is_found_wherever_tensors_can_stand(tmp_path: Path) -> None:
    def outside(location: str) -> TensorProto:
        tensor = TensorProto(name=location, dims=(1,), data_type=1, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        (tmp_path / location).write_bytes(bytes(4))
        return tensor

    inner = helper.make_graph([], "inner", [], [], [outside("of a subgraph")])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=outside("of a node")),
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
    ]
    graph = helper.make_graph(nodes, "outer", [], [], [outside("of the graph")])
    graph.sparse_initializer.add(values=outside("values"), indices=outside("indices"))
    function = helper.make_function("f", "g", [], ["c"], nodes[:1], [helper.make_opsetid("", 17)])
    function.node[0].attribute[0].t.CopyFrom(outside("of a function"))
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, functions=[function]).SerializeToString())
    names = ["indices", "of a function", "of a node", "of a subgraph", "of the graph", "values"]
    assert [file.name for file in data_files(path)] == names


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "..", ".", "", "sub/data", "sub\\data", "c:data"])
def test_a_location_that_leads_elsewhere_is_refused(make_external: Callable[..., Path], location: str) -> None:
    model = make_external(location)
    with pytest.raises(ModelError, match="which is not a file in its own folder") as caught:
        data_files(model)
    assert repr(location) in caught.value.what
    assert caught.value.where == str(model)


def test_a_link_out_of_the_folder_is_refused_and_one_within_it_is_not(make_external: Callable[..., Path]) -> None:
    model = make_external()
    data = model.with_name("model.onnx.data")
    elsewhere = model.parent.parent / "elsewhere"
    data.rename(elsewhere)
    data.symlink_to(elsewhere)
    with pytest.raises(ModelError, match="is a link out of the model's folder"):
        data_files(model)
    elsewhere.rename(model.with_name("blob"))
    data.unlink()
    data.symlink_to("blob")
    assert data_files(model) == (data,)


def test_data_that_is_missing_or_cut_short_is_told(make_external: Callable[..., Path]) -> None:
    model = make_external()
    data = model.with_name("model.onnx.data")
    with data.open("r+b") as file:
        file.truncate(data.stat().st_size - 1)
    with pytest.raises(ModelError, match=r"has 20479 bytes, and the graph reads 20480") as caught:
        data_files(model)
    assert "damaged" in str(caught.value.hint)
    data.unlink()
    with pytest.raises(ModelError, match=r"model\.onnx\.data, is missing") as caught:
        data_files(model)
    assert "into one folder" in str(caught.value.hint)


@pytest.mark.parametrize("place", [{"offset": "-1"}, {"length": "-4"}, {"offset": "far"}])
def test_a_place_that_is_none_is_refused(make_external: Callable[..., Path], place: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="the data of a tensor has no place"):
        data_files(make_external(**place))


def test_a_graph_that_is_damaged_inside_is_refused(make_external: Callable[..., Path]) -> None:
    model = make_external()
    data = bytearray(model.read_bytes())
    data[data.index(b"MatMul") - 1] = 0x7F  # the length of the operator's name
    model.write_bytes(data)
    with pytest.raises(ModelError, match="the ONNX file is damaged"):
        data_files(model)
