"""Test the normal form: independent of names and node order, and computing the same."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import ModelError
from stages.formats.onnx.canonical import canonicalize, count_operators, ordered_nodes, serialize
from stages.formats.onnx.session import load_onnx

OPSET = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]


def tensor(name: str, values: Any) -> Any:
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def value(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def branching() -> Any:
    """Build two branches, twin nodes, equal initializers, an If that reads from enclosing graphs, a dead node."""
    then = helper.make_graph(
        [helper.make_node("Mul", ["joined", "two"], ["then_out"])], "then", [], [value("then_out", ["n", 3])]
    )
    otherwise = helper.make_graph(
        [helper.make_node("Add", ["joined", "own"], ["half"]), helper.make_node("Relu", ["half"], ["else_out"])],
        "else", [], [value("else_out", ["n", 3])], initializer=[tensor("own", [9, 8, 7])],
    )  # fmt: skip
    nodes = [
        helper.make_node("Relu", ["x"], ["r1"], name="left"),
        helper.make_node("Relu", ["x"], ["r2"], name="right"),
        helper.make_node("Mul", ["r1", "a"], ["left_out"]),
        helper.make_node("Sub", ["r2", "b"], ["right_out"], doc_string="says nothing"),
        helper.make_node("Add", ["left_out", "right_out"], ["joined"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=otherwise),
        helper.make_node("Gemm", ["joined", "w"], ["z"], alpha=0.5, transB=1),
        helper.make_node("Neg", ["x"], ["unused"]),
    ]
    constants = [tensor("a", [1, 2, 3]), tensor("b", [1, 2, 3]), tensor("two", [2]), tensor("w", np.ones((2, 3)) * 3)]
    graph = helper.make_graph(
        nodes, "branching", [value("x", ["n", 3]), value("flag", [], TensorProto.BOOL)],
        [value("y", ["n", 3]), value("z", ["n", 2])], initializer=constants, doc_string="dropped",
        value_info=[value("r1", ["n", 3])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=8, producer_name="tests")
    onnx.checker.check_model(model, full_check=True)
    return model


def disguised(model: Any, seed: int) -> Any:
    """Disguise the same graph: other names except for the interface, other orders of nodes, constants and
    attributes.
    """
    rng = random.Random(seed)
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    interface = {v.name: v.name for v in (*copy.graph.input, *copy.graph.output)}
    disguise_graph(copy.graph, {"": "", **interface}, rng)
    shuffle(copy.opset_import, rng)
    for item in (*copy.graph.input, *copy.graph.output):
        for dim in item.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = "unk__7"
    return copy


def disguise_graph(graph: Any, new: dict[str, str], rng: random.Random) -> None:
    def rename(old: str) -> str:
        return new.setdefault(old, f"v{rng.getrandbits(48)}")

    for item in (*graph.initializer, *graph.input, *graph.output):
        item.name = rename(item.name)
    for node in graph.node:
        node.name, node.doc_string = f"n{rng.getrandbits(48)}", str(rng.random())
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                disguise_graph(attribute.g, new, rng)
        shuffle(node.attribute, rng)
    graph.name = str(rng.random())
    del graph.value_info[:]
    shuffle(graph.node, rng)
    shuffle(graph.initializer, rng)


def shuffle(repeated: Any, rng: random.Random) -> None:
    items = [type(item).FromString(item.SerializeToString()) for item in repeated]
    rng.shuffle(items)
    del repeated[:]
    repeated.extend(items)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_what_differs_in_names_and_order_only_becomes_the_same_bytes(seed: int) -> None:
    model = branching()
    assert serialize(canonicalize(disguised(model, seed))) == serialize(canonicalize(model))


@pytest.mark.parametrize("flag", [True, False])
def test_it_computes_the_same(flag: bool) -> None:
    model = branching()
    feeds = {"x": np.linspace(-2, 3, 12, dtype=np.float32).reshape(4, 3), "flag": np.asarray(flag)}
    normal = canonicalize(disguised(model, 5))
    onnx.checker.check_model(normal, full_check=True)
    expected, actual = (
        onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(["y", "z"], feeds)
        for data in (model.SerializeToString(), serialize(normal))
    )
    np.testing.assert_array_equal(actual[0], expected[0])
    np.testing.assert_array_equal(actual[1], expected[1])
    assert np.abs(expected[0]).max() > 1


def test_it_is_idempotent() -> None:
    once = canonicalize(branching())
    assert serialize(canonicalize(once)) == serialize(once)


def test_names_follow_from_structure_and_what_is_not_needed_goes() -> None:
    normal = canonicalize(branching())
    assert [node.name for node in normal.graph.node] == [
        "Relu_0",
        "Mul_0",
        "Relu_1",
        "Sub_0",
        "Add_0",
        "If_0",
        "Gemm_0",
    ]
    assert [v.name for v in normal.graph.input] == ["x", "flag"]
    assert [item.name for item in normal.graph.initializer] == ["Mul_0_in1", "If_0_in3", "Gemm_0_in1"]
    assert list(normal.graph.node[3].input) == ["Relu_1_out", "Mul_0_in1"]  # a and b hold the same numbers
    assert [entry.domain for entry in normal.opset_import] == [""]
    assert normal.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not normal.graph.value_info
    assert not normal.graph.doc_string
    assert count_operators(normal) == {"Add": 2, "Gemm": 1, "If": 1, "Mul": 2, "Relu": 3, "Sub": 1}


def test_other_structure_gives_other_bytes() -> None:
    swapped = branching()
    subtraction = next(node for node in swapped.graph.node if node.op_type == "Sub")
    subtraction.input[:] = list(reversed(subtraction.input))
    other_numbers = branching()
    other_numbers.graph.initializer[3].CopyFrom(tensor("w", np.ones((2, 3)) * 4))
    forms = {serialize(canonicalize(model)) for model in (branching(), swapped, other_numbers)}
    assert len(forms) == 3


def test_numbers_stored_in_either_field_are_the_same_numbers() -> None:
    typed = branching()
    typed.graph.initializer[0].CopyFrom(helper.make_tensor("a", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0]))
    assert not typed.graph.initializer[0].HasField("raw_data")
    assert serialize(canonicalize(typed)) == serialize(canonicalize(branching()))


def test_a_generated_name_gives_way_to_the_interface() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["Relu_0_out"], ["inner"]), helper.make_node("Neg", ["inner"], ["Relu_0"])],
        "names", [value("Relu_0_out", ["n", 3])], [value("Relu_0", ["n", 3])],
    )  # fmt: skip
    normal = canonicalize(helper.make_model(graph, opset_imports=OPSET[:1], ir_version=8))
    onnx.checker.check_model(normal, full_check=True)
    assert [v.name for v in (*normal.graph.input, *normal.graph.output)] == ["Relu_0_out", "Relu_0"]


def test_constants_and_inputs_may_be_outputs() -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "twin"], ["y"])],
        "outputs", [value("x", [3])], [value("y", [3]), value("kept", [3])],
        initializer=[tensor("kept", [1, 2, 3]), tensor("twin", [1, 2, 3])],
    )  # fmt: skip
    normal = canonicalize(helper.make_model(graph, opset_imports=OPSET[:1], ir_version=8))
    outputs = load_onnx(serialize(normal)).run({"x": np.ones(3, np.float32)})
    np.testing.assert_array_equal(outputs["kept"][:3], [1, 2, 3])


def test_graphs_deeper_than_the_recursion_limit() -> None:
    names = ["x", *(f"v{index}" for index in range(2999)), "y"]
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in itertools.pairwise(names)]
    graph = helper.make_graph(list(reversed(nodes)), "deep", [value("x", [1])], [value("y", [1])])
    assert [node.input[0] for node in ordered_nodes(graph)] == names[:-1]
    assert len(canonicalize(helper.make_model(graph, opset_imports=OPSET[:1])).graph.node) == 3000


def test_local_functions_are_refused() -> None:
    model = branching()
    model.functions.append(helper.make_function("own", "f", ["a"], ["b"], [], OPSET[:1]))
    with pytest.raises(ModelError, match="local functions"):
        canonicalize(model)
