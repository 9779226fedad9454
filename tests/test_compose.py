"""The compose file, as far as it can be judged without an engine."""

from pathlib import Path

from ruamel.yaml import YAML

COMPOSE = Path(__file__).parents[1] / "docker" / "compose.yaml"


def test_the_runner_builds_for_the_engines_own_platform_and_makes_no_folder_of_roots():
    runner = YAML(typ="safe").load(COMPOSE)["services"]["runner"]
    assert "platforms" not in runner["build"]  # the usual builder makes one platform at a time
    (models,) = runner["volumes"]
    assert models["read_only"]
    assert not models["bind"]["create_host_path"]
