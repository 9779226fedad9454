"""Test cuts of a file: each runs, computes what the whole does up to there, and their costs add up."""

import numpy as np
import pytest

from pipeline.errors import DeviceError, ModelError
from stages.devices.profile import profile
from stages.devices.runner import seeded_inputs
from stages.devices.target import find_target
from stages.formats.probe import Probe
from stages.formats.tflite import TFLite
from stages.formats.tflite.cuts import cuts
from stages.formats.tflite.probe_model import tflite_model


def outputs(data):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    (x,) = seeded_inputs([(tuple(given["shape"]), "float32")], 3)
    interpreter.set_tensor(given["index"], x)
    interpreter.invoke()
    return {item["name"]: interpreter.get_tensor(item["index"]) for item in interpreter.get_output_details()}


def test_each_cut_computes_what_the_whole_does_up_to_there(tflite_file):
    whole = tflite_file.read_bytes()
    found = list(cuts(whole, "model"))
    assert [cut.kind for cut in found] == ["CONV_2D", "MEAN", "FULLY_CONNECTED"]
    assert [TFLite().layers_of(cut.name)[0] for cut in found[:2]] == ["conv", "pool"]
    for cut in found:
        assert cut.name in outputs(cut.data)
    (last,), (expected,) = outputs(found[-1].data).values(), outputs(whole).values()
    np.testing.assert_array_equal(last, expected)
    assert len(found[0].data) < len(whole)  # it excludes the dense layer's weights
    (features,), (pooled,) = outputs(found[0].data).values(), outputs(found[1].data).values()
    np.testing.assert_allclose(features.mean(axis=(1, 2)).ravel(), pooled.ravel(), rtol=1e-5)


def test_a_branch_that_is_read_later_stays_alive():
    """A file of one operator whose input is read twice has no such branch: build one from two files' tables."""
    data = tflite_model(Probe(kind="dense", inputs=4, outputs=4), "float32")
    from ai_edge_litert import schema_py_generated as schema

    from stages.formats.tflite.cuts import _packed

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    graph = model.subgraphs[0]
    first = graph.operators[0]
    made = [schema.TensorT() for _ in range(2)]
    for place, tensor in enumerate(made):
        tensor.name, tensor.shape, tensor.type = f"sum{place}".encode(), [1, 4], schema.TensorType.FLOAT32
    graph.tensors += made
    add = schema.OperatorCodeT()
    add.builtinCode = add.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    model.operatorCodes.append(add)
    adds = []
    for inputs, output in (([3, 0], 4), ([4, 3], 5)):  # the second reads what the first operator made
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 1, inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
        adds.append(operator)
    graph.operators, graph.outputs = [first, *adds], [5]
    found = list(cuts(_packed(model, 4096), "model"))
    assert [set(outputs(cut.data)) for cut in found] == [{"output"}, {"output", "sum0"}, {"sum1"}]


def test_costs_of_operators_are_those_of_the_file(tflite_file):
    found = profile(find_target("cpu"), tflite_file, "model")
    assert [one.kind for one in found.operators] == ["CONV_2D", "MEAN", "FULLY_CONNECTED"]
    assert sum(one.cost for one in found.operators) == pytest.approx(found.total)
    assert found.operators[0].cost > 0.4 * found.total  # 32×32 positions of a convolution, against two small ones
    assert (found.unit, found.operators[0].layers[0]) == ("nanoseconds", "conv")


def test_names_tell_the_layers_with_weights_first():
    fused = "net/conv_relu/Relu;net/conv_bn/FusedBatchNormV3;net/conv/Conv2D1"
    assert TFLite().layers_of(fused) == ("conv", "conv_bn", "conv_relu")
    assert TFLite().layers_of("net/sep/separable_conv2d/depthwise1") == ("sep",)
    assert TFLite().layers_of("StatefulPartitionedCall:0") == ()


def test_control_flow_has_no_order_of_operators(tflite_file):
    from ai_edge_litert import schema_py_generated as schema

    from stages.formats.tflite.cuts import _packed

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tflite_file.read_bytes(), 0))
    model.subgraphs.append(model.subgraphs[0])
    with pytest.raises(ModelError, match="2 subgraphs"):
        list(cuts(_packed(model, 4096), "model"))


def test_damaged_files_are_named(tflite_file, tmp_path):
    path = tmp_path / "damaged"
    path.write_bytes(tflite_file.read_bytes()[:900])
    with pytest.raises((DeviceError, ModelError)) as caught:
        profile(find_target("cpu"), path, "the file")
    assert caught.value.where == "the file"


def test_weights_behind_the_flatbuffer_are_found():
    """ai-edge-quantizer puts those of files above 256 kB there: a cut has other offsets."""
    from ai_edge_quantizer import Quantizer, recipe

    data = tflite_model(Probe(kind="dense", inputs=768, outputs=768), "float32")
    made = bytes(Quantizer(bytearray(data), recipe.weight_only_wi8_afp32()).quantize().quantized_model)
    *_, last = cuts(made, "model")
    (found,), (expected,) = outputs(last.data).values(), outputs(made).values()
    np.testing.assert_array_equal(found, expected)
