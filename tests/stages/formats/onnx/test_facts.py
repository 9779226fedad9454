from stages.formats.onnx.facts import ONNXFacts


def test_transposes_are_counted_among_the_operators():
    common = {"scheme": "float32", "inputs": (), "outputs": (), "opset": 17, "ir_version": 8}
    assert ONNXFacts(**common, operators={"Conv": 3, "Transpose": 2}).transposes == 2
    assert ONNXFacts(**common, operators={"Conv": 3}).transposes == 0
