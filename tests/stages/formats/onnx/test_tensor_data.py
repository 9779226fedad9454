"""Test models above the limit of one file: two files that compute the same, bit for bit; below it nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import ModelError
from pipeline.records.schemes import Quantization
from stages.formats.onnx.canonical import canonicalize, serialize
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.external_data import DATA_FILE, data_files
from stages.formats.onnx.session import load_onnx
from stages.formats.onnx.tensor_data import PAGE_BYTES, message_bytes, move_outside
from stages.keras import serving as interface
from stages.keras.tensorflow import import_keras

SCHEMES = ("float32", "float16", "weight_only", "dynamic", "int8")
AUTO = Quantization(scheme="int8", calibration="auto")  # whose trials are in two files as well
OPSET = [helper.make_opsetid("", 17)]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set how many bytes a file holds."""
    return lambda size: monkeypatch.setattr(interface, "MOST_BYTES", size)


def in_folder(folder: Path, model: Any, how: Any, **settings: Any) -> Path:
    """Write the model's file in `folder`, with its data files."""
    folder.mkdir(exist_ok=True)
    data = convert_onnx(model, how, beside=folder / DATA_FILE, **settings)
    (folder / "model.onnx").write_bytes(data)
    return folder / "model.onnx"


@pytest.mark.parametrize("scheme", [*SCHEMES, pytest.param(AUTO, id="auto")])
def test_two_files_compute_what_one_does_and_are_the_same_each_time(
    scheme: Any, tiny_xception: Any, tiny_images: Any, limit: Callable[[int], None], tmp_path: Path
) -> None:
    given = {"calibration": tiny_images}
    one = convert_onnx(tiny_xception, scheme, **given)
    limit(len(one) // 4)
    first, again = (in_folder(tmp_path / name, tiny_xception, scheme, **given) for name in ("a", "b"))
    (data,), (data_again,) = data_files(first), data_files(again)
    assert first.read_bytes() == again.read_bytes()
    assert data.read_bytes() == data_again.read_bytes()
    assert first.stat().st_size < len(one)
    assert data.stat().st_size > 1000
    expected, actual = (load_onnx(file).run({"image": tiny_images}) for file in (one, first))
    np.testing.assert_array_equal(actual["head"], expected["head"])


def test_large_tensors_stand_at_pages_in_order_and_small_ones_in_the_graph(
    tiny_xception: Any, limit: Callable[[int], None], tmp_path: Path
) -> None:
    limit(1000)
    path = in_folder(tmp_path, tiny_xception, "float32")
    graph = onnx.load(path, load_external_data=False).graph
    places = [{e.key: e.value for e in t.external_data} for t in graph.initializer if t.external_data]
    offsets = [int(place["offset"]) for place in places]
    assert len(offsets) >= 2
    assert offsets == sorted(set(offsets))
    assert all(offset % PAGE_BYTES == 0 for offset in offsets)
    assert {place["location"] for place in places} == {DATA_FILE}
    assert int(places[-1]["offset"]) + int(places[-1]["length"]) == (tmp_path / DATA_FILE).stat().st_size
    assert all(len(t.raw_data) < 1024 for t in graph.initializer)
    whole = canonicalize(onnx.load(path))
    assert serialize(whole) == serialize(canonicalize(onnx.load_from_string(convert_inside(tiny_xception, limit))))


def convert_inside(model: Any, limit: Callable[[int], None]) -> bytes:
    limit(2**31 - 1)
    return convert_onnx(model, "float32")


@pytest.mark.parametrize("scheme", SCHEMES[1:-1])  # of int8 the nodes are more than the weights, in so small a network
def test_what_becomes_small_enough_is_the_one_file_that_it_would_be(
    scheme: Any, tiny_xception: Any, tiny_images: Any, limit: Callable[[int], None], tmp_path: Path
) -> None:
    one = convert_onnx(tiny_xception, scheme, calibration=tiny_images)
    limit(interface.weight_bytes(tiny_xception) - 1)
    assert in_folder(tmp_path, tiny_xception, scheme, calibration=tiny_images).read_bytes() == one
    assert not (tmp_path / DATA_FILE).exists()


def test_what_fits_is_one_file(tiny_xception: Any, limit: Callable[[int], None], tmp_path: Path) -> None:
    one = convert_onnx(tiny_xception, "float32")
    assert in_folder(tmp_path, tiny_xception, "float32").read_bytes() == one
    assert not (tmp_path / DATA_FILE).exists()
    limit(message_bytes(onnx.load_from_string(one)) - 1)  # the weights alone would fit
    assert interface.weight_bytes(tiny_xception) < interface.MOST_BYTES
    two = in_folder(tmp_path, tiny_xception, "float32")
    assert [path.name for path in data_files(two)] == [DATA_FILE]


def test_a_size_is_told_without_making_the_message(tiny_xception: Any) -> None:
    data = convert_onnx(tiny_xception, "weight_only", metadata={"labels": ["a", "b"]})
    assert len(data) <= message_bytes(onnx.load_from_string(data)) <= len(data) + 20_000


def test_layers_can_stay_in_float(
    tiny_xception: Any, tiny_images: Any, limit: Callable[[int], None], tmp_path: Path
) -> None:
    how = Quantization(scheme="weight_only", keep_float=("separable",))
    one = convert_onnx(tiny_xception, how)
    assert one != convert_onnx(tiny_xception, "weight_only")
    limit(1000)
    expected, actual = (
        load_onnx(file).run({"image": tiny_images})["head"] for file in (one, in_folder(tmp_path, tiny_xception, how))
    )
    np.testing.assert_array_equal(actual, expected)


def test_what_is_frozen_into_a_graph_is_refused(limit: Callable[[int], None], tmp_path: Path) -> None:
    keras = import_keras()
    inputs = keras.Input((5,), dtype="int32", name="words")
    x = keras.layers.Embedding(64, 16, name="table")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="y")(keras.layers.Flatten()(x)), name="lookup")
    limit(1000)
    with pytest.raises(ModelError, match=r"loops and lookups \(LSTM, Embedding\) are frozen into takes less") as caught:
        in_folder(tmp_path, model, "float32")
    assert caught.value.where == "lookup"


def test_equal_tensors_outside_become_one_and_stay_outside(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    tensors = [numpy_helper.from_array(array, name) for name, array in (("a", values), ("b", values), ("c", -values))]
    nodes = [helper.make_node("MatMul", [x, w], [y]) for x, w, y in (("x", "a", "p"), ("p", "b", "q"), ("q", "c", "y"))]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 32)) for name in ("x", "y")]
    inside = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors), opset_imports=OPSET)
    outside = onnx.ModelProto.FromString(inside.SerializeToString())
    move_outside(outside, tmp_path, tmp_path / "raw.bin")
    assert (tmp_path / "raw.bin").stat().st_size == 3 * values.nbytes
    normal = canonicalize(outside, tmp_path, outside=True)
    assert len(normal.graph.initializer) == 2
    assert not any(tensor.raw_data for tensor in normal.graph.initializer)
    assert serialize(canonicalize(normal, tmp_path)) == serialize(canonicalize(inside))


def test_data_that_ends_early_is_noticed(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.ones(1024, np.float32), "w")
    model = helper.make_model(helper.make_graph([], "g", [], [], [tensor]))
    move_outside(model, tmp_path, tmp_path / "raw.bin")
    with (tmp_path / "raw.bin").open("r+b") as file:
        file.truncate(4000)
    with pytest.raises(EOFError, match=r"raw\.bin lacks 96 bytes of the tensor w"):
        move_outside(model, tmp_path, tmp_path / "copy.bin")
