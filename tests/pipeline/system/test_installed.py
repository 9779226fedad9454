import tomllib
from importlib import metadata
from pathlib import Path

from pipeline.system.installed import optional_requirements, package_version, points_of


def test_versions_are_those_of_the_distributions():
    assert package_version("numpy") == metadata.version("numpy")
    assert package_version("no-such-package") == "absent"


def test_a_distribution_may_be_installed_under_its_name_for_processors(monkeypatch):
    class Installed:
        def read_text(self, name):
            return "Name: made-up-cpu\nVersion: 2.21.0\n\nVersion: of the words below"

    def distribution(name):
        if name != "made-up-cpu":
            raise metadata.PackageNotFoundError(name)
        return Installed()

    monkeypatch.setattr(metadata, "distribution", distribution)
    assert package_version("made-up") == "2.21.0"


def test_optional_requirements_are_those_of_our_extras():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    written = {text for extra in project["optional-dependencies"].values() for text in extra}
    assert set(optional_requirements().values()) == {text.partition(";")[0].strip() for text in written}
    assert optional_requirements().keys() == {"tflite-micro", "ethos-u-vela", "openvino", "distributed"}


def test_entry_points_are_those_of_the_group():
    assert {point.group for point in points_of("secateur.stages")} == {"secateur.stages"}
    assert "prune" in points_of("secateur.stages").names
