from types import SimpleNamespace

import pytest

from pipeline.errors import SecateurError
from pipeline.system import plugins


class Point:
    name, value = "mine", "mine.stage:Stage"

    def __init__(self, load):
        self.load = load


def found(monkeypatch, load):
    monkeypatch.setattr(plugins, "named_in", lambda _group: [Point(load)])
    return plugins.instances_of.__wrapped__("secateur.stages", "stage")


def test_what_an_entry_point_names_is_made_once_and_found_by_its_name(monkeypatch):
    assert found(monkeypatch, lambda: SimpleNamespace)["mine"] == SimpleNamespace()
    stages = plugins.instances_of("secateur.stages", "stage")
    assert stages is plugins.instances_of("secateur.stages", "stage")
    assert stages["load"].name == "load"


def test_a_package_that_can_not_be_imported_is_told_with_what_it_was_to_bring(monkeypatch):
    def load():
        raise ImportError("no module named mine")

    with pytest.raises(SecateurError, match="the stage mine can't be loaded: no module named mine") as caught:
        found(monkeypatch, load)
    assert caught.value.where == "mine.stage:Stage"


def test_a_group_without_entry_points_is_an_installation_older_than_the_code():
    with pytest.raises(
        SecateurError, match=r"names nothing under secateur\.later: it is older than this code"
    ) as caught:
        plugins.named_in("secateur.later")
    assert "make setup" in caught.value.hint
