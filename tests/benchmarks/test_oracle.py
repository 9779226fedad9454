"""Check which networks a pattern of the oracle's builds."""

import pytest
from oracle import may_hold


@pytest.mark.parametrize(
    ("pattern", "held"),
    [
        ("application:*", {"application:MobileNet", "application:NASNetLarge"}),
        ("application:[N-X]*", {"application:NASNetLarge"}),
        ("application:MobileNet", {"application:MobileNet"}),
        ("tests:2:*", {"tests:2"}),
        ("tests:2:test_macs*", {"tests:2"}),
        ("loaders:*", {"loaders:Xception:3"}),
        ("loaders:Xception:3:h5", {"loaders:Xception:3"}),
        ("nothing", set()),
    ],
)
def test_only_units_that_can_hold_a_network_of_the_pattern_are_built(pattern, held):
    units = ("tests:2", "tests:3", "loaders:Xception:3", "application:MobileNet", "application:NASNetLarge")
    assert {unit for unit in units if may_hold(unit, pattern)} == held
