import pytest

from stages.formats.probe import Probe

PROBES = {
    "conv": Probe(kind="conv", inputs=7, outputs=13, height=9, width=8, kernel=(3, 3), strides=(2, 2)),
    "grouped": Probe(kind="conv", inputs=8, outputs=12, height=5, width=5, kernel=(3, 3), groups=4),
    "depthwise": Probe(kind="depthwise", inputs=9, outputs=9, height=7, width=7, kernel=(3, 3)),
    "dense": Probe(kind="dense", inputs=30, outputs=10, height=3),
}


def test_macs_and_positions_are_counted_by_hand():
    conv = PROBES["conv"]
    assert (conv.positions, conv.macs) == (5 * 4, 5 * 4 * 9 * 7 * 13)
    assert PROBES["grouped"].macs == 25 * 9 * 2 * 12
    assert PROBES["depthwise"].macs == 49 * 9 * 9
    assert PROBES["dense"].macs == 3 * 30 * 10


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "conv", "inputs": 8, "outputs": 9, "groups": 4}, {"kind": "depthwise", "inputs": 8, "outputs": 9}],
)
def test_impossible_layers_are_refused(wrong):
    with pytest.raises(ValueError, match=r"groups|depthwise"):
        Probe(**wrong)
