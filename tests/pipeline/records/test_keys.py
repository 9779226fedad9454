import hashlib
import subprocess
import sys

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.facts import CalibrationFacts
from pipeline.records.keys import digest_of, digest_of_bytes, digest_of_file
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
ARTIFACT = Artifact(
    files=(FileRef(name="calibration.npy", digest="sha256:" + "1" * 64, size=3, media_type="application/x-npy"),),
    facts=CalibrationFacts(samples=1),
)
GOLDEN_ARTIFACT = "sha256:15462fdd37c7e16ef777f8a46371af1587908b30a45752f7c4d9b521d6883f1b"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def test_golden_keys_do_not_move():
    assert ACTION.key == GOLDEN_KEY
    assert ARTIFACT.digest == GOLDEN_ARTIFACT


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


@given(st.dictionaries(st.text(max_size=4), json_values, max_size=4))
def test_key_order_does_not_matter(value):
    assert digest_of("x", value) == digest_of("x", dict(reversed(value.items())))


@given(json_values, json_values)
def test_different_values_have_different_digests(a, b):
    assert (digest_of("x", a) == digest_of("x", b)) == (rfc8785.dumps(a) == rfc8785.dumps(b))


def test_domains_are_apart():
    assert digest_of("action", {}) != digest_of("artifact", {})


def test_bytes_and_files_agree_with_sha256sum(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of_bytes(b"abc") == digest_of_file(path) == expected


def test_facts_enter_an_artifact_s_digest():
    assert ARTIFACT.model_copy(update={"facts": CalibrationFacts(samples=2)}).digest != ARTIFACT.digest
