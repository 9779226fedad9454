"""Test C source, made from the TFLite export: checked by compiler and runtime, or refused, as Vela's files are."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import PreconditionError, RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.records.manifest import RunManifest
from pipeline.running.run import run
from stages.formats.c.facts import CSourceFacts
from stages.formats.c.source import bytes_in_source, c_source

tflm = pytest.mark.skipif(find_spec("tflite_micro") is None, reason="pip install tflite-micro")


@tflm
def test_c_source_holds_the_tflite_file_and_its_arena(
    recipe: Callable[..., Recipe], store: Path, blob: Any, exported: Any
) -> None:
    manifest = run(recipe(["int8"], ["tflite", "c"], "verify", symbol="net"), store)
    tflite, source = exported(manifest, "tflite/int8"), exported(manifest, "c/int8")
    facts = source.facts
    assert isinstance(facts, CSourceFacts)
    data = blob(store, tflite.files[0])
    array, header = (blob(store, file) for file in source.files)
    assert [file.name for file in source.files] == ["net_data.c", "net_data.h"]
    assert bytes_in_source(array) == data
    assert facts.array_bytes == len(data) == manifest.metrics["c/int8.size_bytes"]
    assert facts.arena_bytes is not None
    assert facts.arena_bytes > 12 * 12 * 2  # the input alone
    assert f"#define NET_ARENA_BYTES {facts.arena_bytes}\n".encode() in header
    assert b"(resolver).AddDepthwiseConv2D();" in header
    assert b"#define NET_OUTPUT_INDEX_HEAD 0\n" in header
    assert b"#define NET_INPUT_0_SHAPE {1, 12, 12, 2}\n" in header
    assert facts.operators == tflite.facts.operators
    assert manifest.metrics["c/int8.micro_difference"] < 0.05
    # verified as what it holds, and by the runtime of microcontrollers
    assert manifest.metrics["c/int8.cosine"] == manifest.metrics["tflite/int8.cosine"] > 0.99
    report = next(e for e in manifest.stages if (e.stage, e.axis) == ("verify", "c/int8")).outputs[0]
    assert "test in TFLM" in {row.inputs for row in report.facts.rows}
    # one conversion for both
    called = next(e for e in manifest.stages if (e.stage, e.axis) == ("export", "c/int8")).children
    assert called == (next(e for e in manifest.stages if (e.stage, e.axis) == ("export", "tflite/int8")).key,)


@pytest.mark.parametrize(
    ("scheme", "target_format", "says"),
    [
        ("float16", "c", "no kernels for half-precision weights"),
        ("dynamic", "c", "no hybrid kernels"),
        ("weight_only", "c", "one scale a tensor"),
        ("int4_weight_only", "c", "takes no 4-bit weights"),
        ("int4_dynamic", "vela", "computes in integers"),
        ("float32", "vela", "computes in integers"),
    ],
)
def test_pairs_that_do_not_exist_are_refused_or_left_out(
    recipe: Callable[..., Recipe], scheme: str, target_format: str, says: str
) -> None:
    from pipeline.planning.wiring import build_chain

    with pytest.raises(RecipeError, match=f"export of {target_format}/{scheme} is impossible: .*{says}"):
        build_chain(recipe([scheme], [target_format]))
    chain = build_chain(recipe([scheme], ["tflite", target_format], unsupported="skip"))
    assert says in chain.skipped[f"{target_format}/{scheme}"]
    assert [node.axis for node in chain.nodes if node.stage == "export"] == [f"tflite/{scheme}"]


def test_no_target_times_c_source(recipe: Callable[..., Recipe]) -> None:
    from pipeline.planning.wiring import build_chain

    with pytest.raises(RecipeError, match="benchmark of c/int8@cpu is impossible: cpu takes"):
        build_chain(recipe(["int8"], ["c"], {"benchmark": {"targets": ["cpu"]}}))
    chain = build_chain(recipe(["int8"], ["c", "tflite"], {"benchmark": {"targets": ["cpu"], "unsupported": "skip"}}))
    assert [node.axis for node in chain.nodes if node.stage == "benchmark"] == ["tflite/int8@cpu"]
    assert "baseline:c" not in {node.id for node in chain.nodes}


@pytest.mark.parametrize("scheme", ["weight_only", "dynamic", "float16"])
def test_what_microcontrollers_compute_wrong_is_refused_on_their_target_too(
    recipe: Callable[..., Recipe], scheme: str
) -> None:
    from pipeline.planning.wiring import build_chain

    with pytest.raises(
        RecipeError, match=f"benchmark of tflite/{scheme}@tflm is impossible: TensorFlow Lite for Micro"
    ):
        build_chain(recipe([scheme], ["tflite"], {"benchmark": {"targets": ["tflm"]}}))
    settings = {"benchmark": {"targets": ["tflm"], "unsupported": "skip"}}
    chain = build_chain(recipe([scheme, "int8"], ["tflite"], settings))
    assert [node.axis for node in chain.nodes if node.stage == "benchmark"] == ["tflite/int8@tflm"]
    assert f"can't compute {scheme}" in chain.skipped[f"tflite/{scheme}@tflm"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_the_header_says_which_output_is_which_in_the_file(scheme: Any, tmp_path: Path) -> None:
    """Output z is 1 + the sum of b, output a -2: checked by a compiled program and by LiteRT, both by index."""
    from stages.formats.c.convert import _ports
    from stages.formats.tflite.convert import convert_tflite

    rng = np.random.default_rng(0)
    samples = {
        "b": rng.uniform(-1, 1, (16, 3)).astype(np.float32),
        "the_image": rng.uniform(0, 9, (16, 2, 2, 1)).astype(np.float32),
    }
    io, calibration = ("int8", list(samples.values())) if scheme == "int8" else ("float32", None)
    data = convert_tflite(two_by_two(), scheme, io, calibration)
    inputs, outputs, elements = told_by_the_header(c_source(data, "net", {}, None, "a test", _ports(data)), tmp_path)
    assert ({port.index for port in inputs.values()}, {port.index for port in outputs.values()}) == ({0, 1}, {0, 1})
    width = 1 if scheme == "int8" else 4
    assert elements == {"b": (3, 3 * width), "the_image": (4, 4 * width), "z": (1, width), "a": (2, 2 * width)}
    found = called_by_index(data, {inputs[name]: values[:1] for name, values in samples.items()}, outputs)
    np.testing.assert_allclose(found["a"], [[-2, -2]], atol=0.03)
    np.testing.assert_allclose(found["z"], [[1 + samples["b"][0].sum()]], atol=0.05)


def two_by_two() -> Any:
    """Build two inputs and two outputs, whose order by name differs from the model's."""
    from stages.keras.tensorflow import import_keras

    keras = import_keras()
    b, image = keras.Input((3,), name="b"), keras.Input((2, 2, 1), name="the_image")
    z = keras.layers.Dense(1, name="z", kernel_initializer="ones", bias_initializer="ones")(b)
    minus_two = {"kernel_initializer": "zeros", "bias_initializer": keras.initializers.Constant(-2)}
    return keras.Model([b, image], [z, keras.layers.Dense(2, name="a", **minus_two)(keras.layers.Flatten()(image))])


@dataclass(frozen=True)
class Told:
    """Hold what a header says of an input or output."""

    index: int
    scale: float
    zero: int


PORTS = """
#include <stdio.h>
#include "net_data.h"
#define SHOW(p) { const int shape[] = p##_SHAPE; p##_TYPE x[p##_ELEMENTS]; int n = 1, i; \\
  for (i = 0; i < p##_RANK; ++i) n *= shape[i]; \\
  printf("%s %d %d %.9g %d\\n", p##_NAME, n, (int)sizeof x, p##_SCALE, p##_ZERO_POINT); }
int main(void) {
  SHOW(NET_INPUT_0) SHOW(NET_INPUT_1) SHOW(NET_OUTPUT_0) SHOW(NET_OUTPUT_1)
  printf("%d %d %d %d %d %d\\n", NET_INPUTS, NET_OUTPUTS, NET_INPUT_INDEX_B, NET_INPUT_INDEX_THE_IMAGE,
         NET_OUTPUT_INDEX_Z, NET_OUTPUT_INDEX_A);
  return 0;
}
"""


def told_by_the_header(source: Any, folder: Path) -> tuple[dict[str, Told], dict[str, Told], dict[str, Any]]:
    """Return inputs and outputs by name, and their elements and bytes, as a C program prints them."""
    (folder / "net_data.h").write_bytes(source.header)
    (folder / "main.c").write_text(PORTS)
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "main.c", "-o", "main"]
    subprocess.run(command, cwd=folder, check=True)
    said = subprocess.run([folder / "main"], capture_output=True, check=True, text=True).stdout.splitlines()
    ports = [line.rsplit(" ", 4) for line in said[:4]]
    inputs, outputs, *places = map(int, said[4].split())
    assert (inputs, outputs) == (2, 2)
    indices = dict(zip(("b", "the_image", "z", "a"), places, strict=True))
    told = {name: Told(indices[name], float(scale), int(zero)) for name, _, _, scale, zero in ports}
    elements = {name: (int(count), int(size)) for name, count, size, _, _ in ports}
    return {n: told[n] for n in ("b", "the_image")}, {n: told[n] for n in ("z", "a")}, elements


def called_by_index(data: bytes, given: dict[Told, Any], outputs: dict[str, Told]) -> dict[str, Any]:
    """Return what LiteRT computes, called as a C program calls it: by index, in the header's steps."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    for port, values in given.items():
        detail = interpreter.get_input_details()[port.index]
        stored = np.rint(values / port.scale) + port.zero if detail["dtype"] == np.int8 else values
        interpreter.set_tensor(detail["index"], stored.astype(detail["dtype"]))
    interpreter.invoke()
    found = {}
    for name, port in outputs.items():
        stored = interpreter.get_tensor(interpreter.get_output_details()[port.index]["index"])
        found[name] = (stored.astype(np.float64) - port.zero) * port.scale
    return found


@tflm
def test_free_sizes_are_asked_for(make_exporting: Callable[..., Any]) -> None:
    with pytest.raises(PreconditionError, match=r"TFLite takes no free sizes, and input 'x' is \?×\?×2") as caught:
        make_exporting()
    assert "stages[2].export.shapes" in str(caught.value.where)
    assert "shapes: {x: [96, 96, 2]}" in str(caught.value.hint)
    assert make_exporting(shapes={"x": [8, 8, 2]}).metrics["c/float32.arena_bytes"] > 8 * 8 * 2 * 4
    with pytest.raises(PreconditionError, match=r"input 'x' takes \(None, None, 2\), not \(8, 8, 3\)"):
        make_exporting(shapes={"x": [8, 8, 3]})
    with pytest.raises(PreconditionError, match="the model has no input 'y'"):
        make_exporting(shapes={"y": [8, 8, 3]})


@pytest.fixture
def make_exporting(tmp_path: Path) -> Callable[..., RunManifest]:
    """Run the C export of a network that takes images of any size."""
    from stages.keras.tensorflow import import_keras

    keras = import_keras()
    image = keras.Input((None, None, 2), name="x")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Conv2D(4, 3, name="conv")(image))
    keras.Model(image, pooled, name="free").save(tmp_path / "free.keras")

    def make(**export: Any) -> RunManifest:
        stages = ["load", {"quantize": {"schemes": ["float32"]}}, {"export": {"formats": ["c"], **export}}]
        path = tmp_path / "recipe.yaml"
        path.write_text(json.dumps({"name": "free", "model": "free.keras", "stages": stages}))
        return run(Recipe.load(path), tmp_path / "store")

    return make
