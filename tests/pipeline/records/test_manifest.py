import hashlib
import subprocess
import sys

import rfc8785

from pipeline.records.manifest import Action

ACTION = Action(
    stage="prune",
    version=1,
    axis=None,
    config={"ratio": 0.5, "exclude": ["head*"], "layers": {"b": 1, "a": None}},
    inputs={"model": "sha256:" + "0" * 64},
    packages={"tensorflow": "2.21.0"},
    seed=7,
    threads=2,
    device=None,
)
GOLDEN_KEY = "f30cee65e1f3cc8c9cbe0f4139f044b75bd8ed36be162a9c6eda3587413f2120"


def test_golden_keys_do_not_move():
    assert ACTION.key == GOLDEN_KEY


def test_keys_are_the_design_s_formula():
    payload = b"secateur.action.v1\0" + rfc8785.dumps(ACTION.model_dump(mode="json"))
    assert ACTION.key == hashlib.sha256(payload).hexdigest()


def test_keys_do_not_depend_on_the_hash_seed():
    code = (
        "import sys; from pipeline.records.manifest import Action; print(Action.model_validate_json(sys.argv[1]).key)"
    )
    command = [sys.executable, "-c", code, ACTION.model_dump_json()]
    runs = [
        subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        for seed in ("0", "1", "2")
    ]
    found = {run.stdout for run in runs}
    assert found == {GOLDEN_KEY + "\n"}
