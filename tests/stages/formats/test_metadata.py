from pipeline.data import Preprocess
from stages.export.config import ExportConfig
from stages.formats.metadata import metadata_of


def test_what_is_said_is_what_was_asked_for_and_nothing_else():
    said = {"converter": "c", "model": "sha256:0", "scheme": "int8"}
    assert metadata_of(ExportConfig(formats=("onnx",)), "sha256:0", "int8", "c") == said
    rules = {"labels": ("cat", "dog"), "preprocess": Preprocess(scale=0.5, offset=-1.0)}
    assert metadata_of(ExportConfig(formats=("onnx",), **rules), "sha256:0", "int8", "c") == said | {
        "labels": ["cat", "dog"],
        "preprocess": {"scale": 0.5, "offset": -1.0},
    }
    by_input = ExportConfig(formats=("onnx",), preprocess={"image": Preprocess(mode="tf")})
    assert metadata_of(by_input, "sha256:0", "int8", "c")["preprocess"] == {"image": {"mode": "tf"}}
