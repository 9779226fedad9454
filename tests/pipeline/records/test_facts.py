from pipeline.records.facts import QuantizedFacts
from pipeline.records.schemes import Quantization


def facts(*rewrites: str) -> QuantizedFacts:
    return QuantizedFacts(
        quantization=Quantization(scheme="int8"),
        io="float32",
        calibration=None,
        params=1,
        macs=1,
        model_digest="sha256:" + "0" * 64,
        rewrites=rewrites,
        rewrites_difference=2.34e-7,
    )


def test_a_note_names_the_layers_at_which_an_equal_network_differs() -> None:
    assert facts().notes == ()
    assert facts("bn: gone", "a: scaled", "bn: again").notes == (
        "a network of equal outputs (to 2e-07) is quantized, with changes at bn, a",
    )
    assert facts(*(f"{name}: scaled" for name in "abcde")).notes[0].endswith("changes at a, b, c and 2 more")
