from importlib.metadata import EntryPoint, EntryPoints

import pytest

from pipeline.contracts import discovery


def test_stages_are_found_by_their_names():
    found = discovery.stages()
    assert {"load", "prune", "export", "verify"} <= found.keys()
    assert all(stage.name == name for name, stage in found.items())


def test_commands_are_known_by_their_modules_without_an_import():
    assert discovery.command_modules()["compare"] == "stages.commands.compare"


def test_drivers_of_targets_are_made_once_and_only_when_one_is_asked_for(monkeypatch):
    points = [EntryPoint("own", "types:SimpleNamespace", "g"), EntryPoint("gone", "no_such_package:Driver", "g")]
    monkeypatch.setattr(discovery, "named_in", lambda group: EntryPoints(points))
    drivers = discovery.target_drivers.__wrapped__()
    assert drivers["own"]() is drivers["own"]()
    with pytest.raises(ImportError):
        drivers["gone"]()
