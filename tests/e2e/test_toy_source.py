"""Run a recipe whose data comes from a third-party source: one file and one line, and nothing here knows of it."""

from pathlib import Path

import numpy as np
import pytest

from stages.keras.tensorflow import import_keras

TOY = Path(__file__).parents[1] / "toy"
DATA = 'data: {source: lines, path: d.txt, comment: "#", separator: ";", test: {fraction: 0.25}}'
RECIPE = f"""\
name: lines
seed: 3
model: dense.keras
{DATA}
stages:
  - load
  - quantize: {{schemes: [float32]}}
  - export: {{formats: [onnx]}}
  - verify
gates:
  - {{metric: onnx/float32.accuracy, min: 0.5}}
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory, secateur):
    """Run the command line where the source is installed: in a folder with a network that is right on all lines."""
    folder, keras, rng = tmp_path_factory.mktemp("lines"), import_keras(), np.random.default_rng(0)
    inputs = keras.Input((3,), name="x")
    layer = keras.layers.Dense(3, name="y")
    keras.Model(inputs, layer(inputs)).save(folder / "dense.keras")
    kernel, bias = layer.get_weights()
    rows = rng.standard_normal((48, 3)).astype(np.float32)
    labels = (rows @ kernel + bias).argmax(1)
    text = [";".join([*(f"{x:.9g}" for x in row), str(y)]) for row, y in zip(rows, labels, strict=True)]
    (folder / "d.txt").write_text("\n".join(["#lines", *text]) + "\n")

    def run(command, recipe=RECIPE, installed=True, options=("--json",)):
        (folder / "lines.yaml").write_text(recipe)
        env = {"PYTHONPATH": str(TOY) if installed else "", "SECATEUR_STORE": str(folder / "store")}
        return secateur(command, *((folder / "lines.yaml",) if command != "schema" else ()), *options, env=env)

    return run


def test_its_samples_go_through_a_whole_run_which_is_then_cached(lines):
    code, manifest, err = lines("run")
    assert code == 0, err
    assert manifest["metrics"]["onnx/float32.accuracy"] == 1
    facts = [output["facts"] for entry in manifest["stages"] for output in entry["outputs"]]
    assert {fact["samples"] for fact in facts if fact["kind"] == "evaluation"} == {12}
    code, again, err = lines("run")
    assert (code, {entry["status"] for entry in again["stages"]}) == (0, {"hit"}), err


def test_its_settings_are_in_the_digest_of_splits_unless_they_are_the_defaults(lines):
    _, plan, _ = lines("plan")
    assert "run" not in {action["status"] for action in plan["actions"] if action["stage"] == "verify"}
    said_otherwise = RECIPE.replace('comment: "#"', 'comment: "#l"')  # the same lines, and another way to read them
    _, plan, _ = lines("plan", said_otherwise)
    assert {action["status"] for action in plan["actions"] if action["stage"] == "verify"} == {"run"}
    assert {action["status"] for action in plan["actions"] if action["stage"] == "export"} == {"hit"}


@pytest.mark.parametrize(
    ("data", "what", "hint"),
    [
        ("{source: lines, path: d.txt, size: [4, 4]}", "size is for source csv, image_folder or tfrecord, not", None),
        ("{source: npz, path: d.txt, separator: x}", "separator is for source lines, not for npz", None),
        ("{source: lines}", "data: source lines needs path", None),
        ("{source: lines, path: d.txt, seperator: x}", "data.seperator: unknown key", "the nearest is separator"),
        ("{source: lines, path: d.txt, separator: 5}", "data.separator: 5: text is needed", 'write "5"'),
        ("{source: line, path: d.txt}", 'data.source: "line" is not allowed', "the nearest is lines; allowed: 'csv'"),
        (
            "{source: npz, path: d.txt, test: test}",
            "npz, and d.txt looks like csv or lines",
            "or `source: lines`, or name",
        ),
        ("{source: lines, path: none.txt, test: test}", "none.txt is not there", "from the recipe's folder"),
    ],
)
def test_mistakes_tell_whose_keys_they_are(lines, data, what, hint):
    code, _, err = lines("plan", RECIPE.replace(DATA, f"data: {data}"))
    assert code == 2
    assert what in err
    assert hint is None or hint in err


def test_the_schema_has_its_keys_where_it_is_installed(lines):
    for installed in (True, False):
        _, schema, _ = lines("schema", installed=installed, options=())
        assert ('"separator"' in schema, '"lines"' in schema) == (installed, installed)
    code, _, err = lines("plan", installed=False)
    assert code == 2
    assert 'data.source: "lines" is not allowed' in err
