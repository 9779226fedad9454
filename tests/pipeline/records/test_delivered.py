import pytest

from pipeline.errors import StoreError
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.delivered import left_out, require_inside, wanted_files
from pipeline.records.facts import KerasFacts
from pipeline.records.manifest import Output, RunManifest, StageEntry
from stages.formats.tflite.facts import TFLiteFacts


def entry(name, axis, digit, status="ran", reason=""):
    """Return an action with one output, whose digest consists of one digit."""
    keras = KerasFacts(params=1, macs=1, inputs=(), outputs=(), sparsity=0.0)
    facts = TFLiteFacts(scheme="int8", inputs=(), outputs=(), operators={}) if axis else keras
    file = FileRef(name="model", digest=f"sha256:{digit * 64}", size=1, media_type="x")
    return StageEntry(
        id=name,
        stage=name.partition(":")[0].replace("baseline", "export"),
        axis=axis,
        key=None,
        status=status,
        reason=reason,
        wall_s=0.0,
        outputs=(Output.of(Artifact(files=(file,), facts=facts)),) if status == "ran" else (),
    )


@pytest.fixture
def manifest():
    stages = (
        entry("load", None, "0"),
        entry("strip", None, "1"),
        entry("control", None, "2"),
        entry("narrow[1]", None, "2"),
        entry("narrow", None, "2"),
        entry("baseline:tflite", "tflite/float32", "3"),
        entry("export:tflite/int8", "tflite/int8", "4"),
        entry("export:tflite/dynamic", "tflite/dynamic", "5"),
        entry("export:onnx/int8", "onnx/int8", "6", "failed", "no kernel\n  onnx/int8"),
        entry("export:onnx/float32", "onnx/float32", "7", "skipped", "strip failed"),
        entry("verify:tflite/dynamic", "tflite/dynamic", "8", "failed", "the cosine is 0.5"),
    )
    return RunManifest(
        run_id="abcd", name="n", recipe_digest="sha256:" + "0" * 64, stages=stages, metrics={}, gates=(), verdict="fail"
    )


def test_what_is_not_proven_is_left_out_with_the_reason(manifest):
    assert left_out(manifest) == {
        "onnx/int8": "its export failed: no kernel",
        "onnx/float32": "its export was never reached, strip failed",
        "tflite/dynamic": "its verification failed: the cosine is 0.5",
    }


def test_proven_exports_are_delivered_with_the_last_keras_model_and_no_control_or_baseline(manifest):
    assert wanted_files(manifest) == {
        "tflite/int8/model": "sha256:" + "4" * 64,
        "keras/float32/model": "sha256:" + "1" * 64,
    }
    assert wanted_files(manifest.model_copy(update={"stages": manifest.stages[:6]})) == {}


@pytest.mark.parametrize(
    "axis",
    [
        *("tflite/../..", "../tflite/int8", "../int8", "/tflite/int8", "tflite/..", "./int8", "tflite/a/b", "tflite"),
        *("tflite/in\0t8", "tflite/int8\n", "\x1b[2J/int8", "manifest.json/int8"),
    ],
)
def test_a_manifest_that_was_edited_to_lead_out_of_the_folder_delivers_nothing(manifest, axis):
    require_inside(wanted_files(manifest), "abcd")
    edited = manifest.model_copy(update={"stages": (*manifest.stages, entry(f"export:{axis}", axis, "9"))})
    with pytest.raises(StoreError, match="run abcd names a file that is not FORMAT/SCHEME/name"):
        require_inside(wanted_files(edited), "abcd")
