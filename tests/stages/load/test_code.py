"""Test configurations that would run code or access files: refused before anything is built, and nothing has run."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.keras.tensorflow import import_tensorflow
from stages.load import load_model
from stages.load.code import by_name_alone, refuse_code

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`"),
]


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_code_in_a_file_runs_only_with_trust(either_keras, tmp_path, monkeypatch, suffix):
    marker, path = tmp_path / "ran", tmp_path / f"m.{suffix}"
    monkeypatch.setenv("TEST_MARKER", str(marker))
    inputs = either_keras.Input((4,))
    evil = either_keras.layers.Lambda(
        lambda x: (__import__("pathlib").Path(__import__("os").environ["TEST_MARKER"]).touch(), x)[1],
        output_shape=(4,),
        name="evil",
    )
    either_keras.Model(inputs, evil(inputs)).save(path)
    marker.unlink(missing_ok=True)
    with pytest.raises(ModelError, match="'evil' holds Python code") as caught:
        load_model(path)
    assert "trust: true" in caught.value.hint
    assert not marker.exists()
    model = load_model(path, trust=True).model
    x = np.ones((1, 4), "float32")
    assert np.array_equal(model(x), x)
    assert marker.exists()


def layer(class_name="Dense", **more):
    """Return a configuration of one layer called `odd`."""
    settings = more.pop("settings", {})
    return {"class_name": class_name, "config": {"name": "odd", **settings}, **more}


FUNCTION = {"class_name": "function", "registered_name": "f"}
BAD = {
    "a Lambda": layer("Lambda"),
    "a lambda as activation": layer(settings={"activation": {"class_name": "__lambda__", "config": {"value": "x"}}}),
    "a TorchScript module": layer("TorchModuleWrapper", module="keras.layers"),
    "a SavedModel elsewhere": layer("TFSMLayer", module="keras.layers", settings={"filepath": "/srv/model"}),
    "a graph operation": layer("TensorFlowOpLayer"),
    "a file written by an operation": layer("TFOpLambda", settings={"function": "io.write_file"}),
    "a raw operation": layer("TFOpLambda", settings={"function": "raw_ops.ReadFile"}),
    "a Python function as operation": layer("TFOpLambda", settings={"function": "py_function"}),
    "a printing operation": layer("SlicingOpLambda", settings={"function": "compat.v1.Print"}),
    "a private symbol": layer("TFOpLambda", settings={"function": "math.__builtins__"}),
    "a class of another module": layer("Popen", module="subprocess"),
    "a function of another module": layer(settings={"activation": FUNCTION | {"module": "os", "config": "system"}}),
    "a function by way of Keras": layer(
        settings={"activation": FUNCTION | {"module": "keras.utils", "config": "get_file"}}
    ),
    "a dotted function": layer(
        settings={"activation": FUNCTION | {"module": "keras.activations", "config": "os.system"}}
    ),
    "a builtin": layer(settings={"activation": FUNCTION | {"module": "builtins", "config": "exec"}}),
    "a callback": layer("CSVLogger", module="keras.callbacks"),
    "a vocabulary elsewhere": layer("StringLookup", module="keras.layers", settings={"vocabulary": "/etc/passwd"}),
    "a type of another module": layer(
        settings={"spec": {"class_name": "__typespec__", "module": "evil", "config": []}}
    ),
    "a class method": layer("ClassMethod", settings={"cls_symbol": "io.TFRecordWriter", "method_name": "write"}),
    "a private attribute": layer("InstanceProperty", settings={"attr_name": "__class__"}),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("inside", ["alone", "wrapped", "nested"])
def test_whatever_could_do_more_than_compute(what, inside):
    config = BAD[what]
    if inside == "wrapped":
        config = layer("TimeDistributed", module="keras.layers", settings={"layer": config})
    if inside == "nested":
        config = {"class_name": "Functional", "module": "keras.src.models.functional", "config": {"layers": (config,)}}
    with pytest.raises(ModelError, match="the layer 'odd'") as caught:
        refuse_code(config, "m.keras")
    assert caught.value.where == "m.keras"


def test_applications_pass(keras2, keras3):
    for keras in (keras2, keras3):
        model = keras.applications.MobileNetV3Small(weights=None, input_shape=(64, 64, 3))
        config = json.loads(model.to_json())
        assert refuse_code(config, "small") is None
        config["config"]["layers"][40]["config"]["activation"] = BAD["a builtin"]["config"]["activation"]
        with pytest.raises(ModelError, match="exec"):
            refuse_code(config, "small")
    convnext, tfmot = "tf_keras.src.applications.convnext", "tensorflow_model_optimization.python.core.sparsity.keras"
    for name, module in (("LayerScale", convnext), ("PruneLowMagnitude", tfmot)):
        assert refuse_code(layer(name, module=module), "known") is None
        with pytest.raises(ModelError, match="the layer 'odd'"):
            refuse_code(layer(name, module=f"evil.{module}"), "unknown")


@pytest.mark.filterwarnings("ignore:The `keras.initializers.serialize\\(\\)` API should only be used")
@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_initializers_of_tensorflow_itself_pass_and_nothing_else_of_their_module(keras2, tmp_path, suffix):
    """As tf_keras' own EfficientNetV2 has one for its closing bias."""
    inputs = keras2.Input((4,))
    start = import_tensorflow().constant_initializer(3.0)
    model = keras2.Model(inputs, keras2.layers.Dense(2, bias_initializer=start, name="predictions")(inputs))
    model.save(tmp_path / f"m.{suffix}")
    found = load_model(tmp_path / f"m.{suffix}").model
    x = np.ones((1, 4), "float32")
    assert np.array_equal(found(x), model(x))
    module = "tensorflow.python.ops.init_ops_v2"
    assert refuse_code(layer("Constant", module=module), "known") is None
    for name in ("constant_op", "Initializer", "_RandomGenerator"):
        with pytest.raises(ModelError, match=f"names the class {name}"):
            refuse_code(layer(name, module=module), "unknown")


def test_a_named_custom_object_passes_and_no_other():
    config = layer("Scale", module="mine", registered_name="Package>Scale")
    refuse_code(config, "m.keras", frozenset({"Scale"}))
    with pytest.raises(ModelError, match="name it under custom_objects as module:Scale"):
        refuse_code(config, "m.keras", frozenset({"Other"}))
    told = by_name_alone({"layers": [config]}, frozenset({"Scale"}))["layers"][0]
    assert (told["module"], told["registered_name"]) == (None, "Scale")
    disguised = layer(
        settings={"activation": FUNCTION | {"module": "os", "config": "system", "registered_name": "x>Scale"}}
    )
    with pytest.raises(ModelError, match="names the function system of os"):
        refuse_code(disguised, "m.keras", frozenset({"Scale"}))


def test_a_configuration_without_bottom(keras2, tmp_path):
    (tmp_path / "m.json").write_text(
        '{"class_name": "Sequential", "config": {"layers": ' + "[" * 5000 + "]" * 5000 + "}}"
    )
    with pytest.raises(ModelError, match="damaged"):
        load_model(tmp_path / "m.json", weights=tmp_path / "m.json")


def test_an_operation_that_would_write_a_file_never_does(keras2, tmp_path):
    """The same attack by HDF5, through a real file: a TFOpLambda of a harmless function is turned into another."""
    tf, marker = import_tensorflow(), tmp_path / "written"
    inputs = keras2.Input((4,))
    model = keras2.Model(inputs, tf.math.add(inputs, 1.0))
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        config = file.attrs["model_config"].replace("math.add", "io.write_file")
        file.attrs["model_config"] = config
    with pytest.raises(ModelError, match=r"io\.write_file, which may do more than compute"):
        load_model(tmp_path / "m.h5")
    assert not Path(marker).exists()
