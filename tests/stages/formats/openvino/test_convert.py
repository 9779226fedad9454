"""OpenVINO models: made of the ONNX export, equal in every process, what they hold and what is refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RecipeError, UnsupportedError
from pipeline.recipe.recipe import Recipe
from pipeline.records.artifacts import Artifact
from pipeline.records.manifest import RunManifest
from stages.formats.openvino.convert import write_openvino
from stages.formats.openvino.facts import OpenVINOFacts
from stages.formats.openvino.ir import graph_of, metadata_in
from stages.formats.registry import format_of_kind

STORED = {"float32": "float32", "float16": "float16", "weight_only": "int8", "int8": "int8"}
WEIGHTS = 2840  # of the tiny network's kernels
AGAIN = """
import hashlib, sys
from pathlib import Path
from stages.formats.openvino.convert import write_openvino
*others, source, target, scheme = sys.argv[1:]
for other in others:
    write_openvino(Path(other), Path(target), "float32", {})
from stages.formats.openvino.ir import graph_of, metadata_in
said = metadata_in(graph_of(Path(sys.argv[-2]).with_name("first.xml")))
write_openvino(Path(source), Path(target), scheme, said)
for path in (Path(target), Path(target).with_suffix(".bin")):
    print(hashlib.sha256(path.read_bytes()).hexdigest())
"""


@pytest.mark.parametrize("scheme", STORED)
def test_facts_tell_what_the_files_hold(
    manifest: RunManifest, artifact_of: Callable[[str], Artifact], scheme: str
) -> None:
    artifact = artifact_of(f"openvino/{scheme}")
    facts = artifact.facts
    assert isinstance(facts, OpenVINOFacts)
    assert [file.name for file in artifact.files] == ["model.xml", "model.bin"]
    assert facts.scheme == scheme
    assert [(spec.name, spec.shape) for spec in (*facts.inputs, *facts.outputs)] == [
        ("image", (None, 12, 12, 2)),
        ("head", (None, 4)),
    ]
    assert facts.weights == {STORED[scheme]: WEIGHTS}
    assert facts.operators["Convolution"] == 2
    assert facts.operators["GroupConvolution"] == 1
    assert ("FakeQuantize" in facts.operators) == (scheme == "int8")
    assert (facts.ir_version, facts.inference_precision) == (11, "f32")
    assert manifest.metrics[f"openvino/{scheme}.size_bytes"] == sum(file.size for file in artifact.files)
    data = artifact.files[1].size
    assert data < WEIGHTS * (4 if scheme == "float32" else 2 if scheme == "float16" else 1) + 1500


@pytest.mark.parametrize("scheme", STORED)
def test_another_process_makes_equal_bytes_after_other_conversions(
    artifact_of: Callable[[str], Artifact], path_of: Callable[[str], Path], scheme: str, tmp_path: Path
) -> None:
    first = path_of(f"openvino/{scheme}")
    (tmp_path / "first.xml").write_bytes(first.read_bytes())
    others = [str(path_of(f"onnx/{other}")) for other in ("int8", "float32")][: 1 + (scheme == "int8")]
    arguments = [*others, str(path_of(f"onnx/{scheme}")), str(tmp_path / "model.xml"), scheme]
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, *arguments],
        env={**os.environ, "PYTHONHASHSEED": "5"}, cwd=Path(__file__).parents[4], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    wanted = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, first.with_suffix(".bin"))]
    assert done.stdout.split() == wanted


def test_a_model_says_what_it_was_made_of_and_no_version(manifest: RunManifest, path_of: Callable[[str], Path]) -> None:
    path = path_of("openvino/int8")
    quantized = next(e for e in manifest.stages if (e.stage, e.axis) == ("quantize", "int8")).outputs[0]
    digest = quantized.facts.model_digest
    said = metadata_in(graph_of(path))
    assert said.items() >= {"converter": "openvino", "model": digest, "scheme": "int8"}.items()
    assert said.keys() == {"converter", "model", "scheme", "preprocess"}
    assert format_of_kind("openvino-model").origin(path) == digest
    text = path.read_text()
    assert "2026" not in text
    assert str(path.parent) not in text
    import openvino

    assert openvino.Core().read_model(str(path)).get_rt_info(["secateur", "scheme"]).astype(str) == "int8"


@pytest.mark.parametrize(
    ("scheme", "says"),
    [
        ({"scheme": "dynamic", "granularity": "per_tensor"}, "no kernels for ONNX's dynamic quantization"),
        ({"scheme": "int16x8"}, "16-bit activations"),
    ],
)
def test_pairs_that_do_not_exist_are_refused_or_left_out(recipe: Callable[..., Recipe], scheme: Any, says: str) -> None:
    from pipeline.planning.wiring import build_chain

    name = scheme["scheme"]
    with pytest.raises(RecipeError, match=f"export of openvino/{name} is impossible: .*{says}"):
        build_chain(recipe([name], ["openvino"]))
    chain = build_chain(recipe([name, "int8"], ["openvino"], unsupported="skip"))
    assert says in chain.skipped[f"openvino/{name}"]
    assert [node.axis for node in chain.nodes if node.stage == "export"] == ["openvino/int8"]


def test_what_openvino_lacks_is_an_error_of_the_pair(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4)) for name in ("x", "y")]
    node = helper.make_node("NoSuchOperator", ["x"], ["y"], domain="nowhere")
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)]
    (tmp_path / "odd.onnx").write_bytes(helper.make_model(graph, opset_imports=domains).SerializeToString())
    with pytest.raises(UnsupportedError, match=r"can't represent the model in float32: .*NoSuchOperator") as caught:
        write_openvino(tmp_path / "odd.onnx", tmp_path / "odd.xml", "float32", {})
    assert "\n" not in caught.value.what
    assert "src/" not in caught.value.what
