from importlib.util import find_spec

import pytest

from pipeline.errors import DeviceError
from stages.formats.probe import Probe
from stages.formats.tflite.probe_model import tflite_model
from stages.formats.vela.accelerator import EthosU
from stages.formats.vela.compiler import Compiled, _left, _reasons, compile_for

vela = pytest.mark.skipif(find_spec("ethosu") is None, reason="pip install ethos-u-vela")
CONV = Probe(kind="conv", inputs=8, outputs=16, height=8, width=8, kernel=(3, 3))
SAID = """\
Warning (supported operators) operator: MEAN, ofm: 'model/mean'
Reason: Reduced axis is too large
Warning: CUMSUM operation is unknown or unsupported, placing on CPU
Warning: Unsupported TensorFlow Lite semantics for GATHER 'model/gather'. Placing on CPU instead
 - Scalar input
Warning (supported operators) operator: MEAN, ofm: 'model/mean'
Reason: Reduced axis is too large
CPU operators = 3 (75.0%)
"""


def test_reasons_are_told_in_vela_s_words_each_once():
    assert _reasons(SAID) == (
        "MEAN 'model/mean': Reduced axis is too large",
        "CUMSUM: not supported on the NPU",
        "GATHER 'model/gather': Scalar input",
    )


def test_what_is_left_to_the_cpu_is_told_with_its_share():
    left = _left({"CUSTOM": 2, "MEAN": 2, "GATHER": 1})
    assert left == ("MEAN", "MEAN", "GATHER")
    made = Compiled(b"", npu_operators=1, cpu_operators=3, cycles=0, sram_bytes=0, on_cpu=left, reasons=("why",))
    assert made.npu_share == 0.25
    assert made.said == ("on the CPU, and in no estimate: 2 MEAN, 1 GATHER", "why")
    assert Compiled(b"", npu_operators=0, cpu_operators=0, cycles=0, sram_bytes=0).npu_share == 0.0


@vela
def test_an_int8_layer_goes_to_the_npu_with_estimates_and_a_float_one_does_not(tmp_path):
    made = {}
    for scheme in ("int8", "float32"):
        (tmp_path / scheme).write_bytes(tflite_model(CONV, scheme))
        made[scheme] = compile_for(EthosU(), tmp_path / scheme, scheme)
    assert (made["int8"].npu_share, made["int8"].on_cpu) == (1.0, ())
    assert made["int8"].cycles > 0
    assert made["int8"].sram_bytes >= 8 * 8 * 8
    assert (made["float32"].npu_operators, made["float32"].on_cpu) == (0, ("CONV_2D",))


@vela
def test_what_vela_refuses_is_an_error_with_its_words(tmp_path):
    (tmp_path / "model").write_bytes(b"no model")
    with pytest.raises(DeviceError, match=r"Vela .* and gave no estimate") as caught:
        compile_for(EthosU(), tmp_path / "model", "mine")
    assert caught.value.where == "mine"
    assert caught.value.hint
