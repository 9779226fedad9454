"""Test `secateur profile` as a user calls it."""

import json

import pytest

from pipeline.errors import DeviceError, ModelError, RecipeError, SecateurError
from stages.commands.profile import advice_text, bar, command
from stages.devices.advice import Advice, Advised
from stages.formats.onnx.convert import convert_onnx
from stages.formats.probe import Probe
from stages.formats.tflite.probe_model import tflite_model
from stages.keras.tensorflow import import_keras

ADVICE = Advice(
    rule="few_channels", kind="CONV_2D", name="model/conv1/Conv2D", layers=("conv1",), cost=2.2e5, float_cost=8.4e4,
    why="padding", helps="keep_float: [conv1]",
)  # fmt: skip


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_model(Probe(kind="conv", inputs=8, outputs=8, height=14, width=14, kernel=(3, 3)), "int8"))
    return path


def test_a_table_of_operators_whose_shares_are_the_whole(file, capsys):
    command(str(file))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{file} on cpu, litert")
    (row,) = [line.split() for line in lines if line.startswith("CONV_2D")]
    assert row[2:] == ["100.0%", "█" * 24, "output"]
    assert lines[-1] == f"{row[1]} µs in 1 operators"


def test_json_is_one_document(file, capsys):
    command(str(file), as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["schema_version"], document["unit"], document["target"]) == (1, "nanoseconds", "cpu")
    assert [one["kind"] for one in document["operators"]] == ["CONV_2D"]
    assert document["operators"][0]["cost"] == document["total"] > 0


def test_layers_of_a_lone_onnx_file_are_those_of_the_model_that_is_named(tiny_xception, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    path.write_bytes(convert_onnx(tiny_xception, "float32"))
    command(str(path), store=tmp_path / "store", as_json=True)
    unknown = capsys.readouterr()
    assert "layers are not known" in unknown.err
    assert not any(one["layers"] for one in json.loads(unknown.out)["operators"])
    tiny_xception.save(tmp_path / "model.keras")
    command(str(path), keras=tmp_path / "model.keras", store=tmp_path / "store", as_json=True)
    known = json.loads(capsys.readouterr().out)["operators"]
    assert {"stem", "separable", "join", "pool", "head"} <= {layer for one in known for layer in one["layers"]}


def test_an_onnx_file_that_leaves_sizes_open_is_run_at_its_models_or_at_those_given(tmp_path, capsys):
    keras = import_keras()
    image = keras.Input((None, None, 3), name="image")
    model = keras.Model(image, keras.layers.Conv2D(4, 3, name="only")(image))
    model.save(tmp_path / "model.keras")
    path = tmp_path / "model.onnx"
    path.write_bytes(convert_onnx(model, "float32"))
    store = {"store": tmp_path / "none"}
    command(str(path), keras=tmp_path / "model.keras", **store)
    assert "only" in capsys.readouterr().out
    command(str(path), shape=["image=1,9,7,3"], **store)
    assert "Conv" in capsys.readouterr().out
    with pytest.raises(DeviceError, match=r"free dimensions \(\?,\?,\?,3\): --shape image=\?,\?,\?,3"):
        command(str(path), **store)
    with pytest.raises(DeviceError, match="free dimensions"):
        command(str(path), shape=["1,9,7,4"], **store)
    with pytest.raises(RecipeError, match="is not a shape"):
        command(str(path), shape=["9x7"], **store)


def test_a_target_is_refused_before_anything_is_looked_for(tiny_xception, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    path.write_bytes(convert_onnx(tiny_xception, "float32"))
    with pytest.raises(RecipeError, match="tflm can't go through small probes"):
        command(str(path), target="tflm", store=tmp_path / "store")
    assert capsys.readouterr().err == ""


def test_what_can_not_be_meant_is_told(tmp_path):
    with pytest.raises(SecateurError, match="not a file, a run or an artifact"):
        command("nothing", store=tmp_path / "store")
    text = tmp_path / "recipe.yaml"
    text.write_text("name: none\n")
    with pytest.raises(SecateurError, match="neither onnx nor openvino nor tflite"):
        command(str(text))


def test_an_onnx_file_damaged_inside_is_told(tmp_path):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"\x3a\x04\xff\xff\xff\xff")  # a graph of four invalid bytes
    with pytest.raises(ModelError, match="the ONNX file is damaged") as told:
        command(str(damaged), store=tmp_path / "store")
    assert told.value.where == str(damaged)


def test_advice_names_operators_with_the_reason_or_says_that_there_is_none(file, tmp_path, capsys):
    found = Advised(target="pi", runtime="litert 2.3", unit="instructions", total=9e5, advice=(ADVICE,))
    text = advice_text(found, "model.tflite").splitlines()
    assert text[0] == "model.tflite on pi, litert 2.3"
    assert text[2] == "CONV_2D of conv1: 220.0 thousand instructions, in float32 84.0"
    assert text[3:5] == ["  why    padding", "  helps  keep_float: [conv1]"]
    assert text[-1] == "136.0 of 900.0 thousand instructions (15%) are lost in 8 bits"
    command(str(file), advised=True, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["schema_version"], document["target"], document["unit"]) == (1, "cpu", "nanoseconds")
    assert document["total"] > 0
    float_file = tmp_path / "float.tflite"
    float_file.write_bytes(tflite_model(Probe(kind="conv", inputs=8, outputs=8), "float32"))
    command(str(float_file), advised=True)
    assert "nothing to compare, no operator computes in 8 bits" in capsys.readouterr().out


def test_bars_are_in_eighths():
    assert bar(1.0) == "█" * 24
    assert bar(0.5) == "█" * 12
    assert bar(1 / 24 + 1 / 192) == "█▏"
    assert bar(0.0) == bar(-0.1) == ""
