import json

from stages.prune.report import DepletedGroup, GroupReport, PruneReport

GROUP = {"name": "conv", "producers": ("conv",), "pass_through": (), "consumers": ("head",), "frozen": ()}
NUMBERS = {
    "channels_before": 8, "channels_after": 6, "params_before": 90, "params_after": 70, "macs_before": 900,
    "macs_after": 700, "equivalence_error": 1e-7, "masking_effect": 0.5, "removed_share": 0.25, "reached": 0.75,
}  # fmt: skip


def report(**changes):
    group = GroupReport(**GROUP, channels_before=8, channels_after=6, removed=(1, 5), predicted_loss=None)
    settings = {"criterion": "l2", "scope": "global", "measure": "channels", "wanted": 0.75, "macs_unknown": ()}
    settings |= {"competition": "isomorphic", "predicted_loss": None, "search": None, "depleted": ()}
    settings |= {"prevention": None, "kept": {"conv": (0, 2, 3, 4, 6, 7)}}
    return PruneReport(**{**NUMBERS, **settings, "groups": (group,), **changes})


def test_equal_reports_are_equal_bytes_and_come_back_whole():
    data = report().to_json()
    assert data == PruneReport.model_validate_json(data).to_json()
    assert PruneReport.model_validate_json(data) == report()
    assert list(json.loads(data)) == sorted(json.loads(data))  # canonical: by name, not by declaration
    assert report(wanted=None).to_json() != data


def test_notes_name_depleted_groups_and_the_way_out():
    groups = tuple(DepletedGroup(name=name, channels_in_source=16, channels_after=1) for name in "abcde")
    assert report().notes == ()
    assert report(depleted=groups[:1], prevention="min_channels: 4").notes == (
        "more than 75 % of the channels are gone: a keeps 1 of 16; min_channels: 4 prevents this",
    )
    named = "a keeps 1 of 16, b keeps 1 of 16, c keeps 1 of 16 and 2 more"
    assert report(depleted=groups).notes == (
        f"more than 75 % of the channels are gone: {named}; ask for less to prevent this",
    )
