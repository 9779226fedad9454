"""Check the compose file, as far as possible without an engine."""

from pathlib import Path

from ruamel.yaml import YAML

COMPOSE = Path(__file__).parents[1] / "docker" / "compose.yaml"


def test_the_runner_builds_for_the_engines_own_platform_and_makes_no_folder_of_roots():
    runner = YAML(typ="safe").load(COMPOSE)["services"]["runner"]
    assert "platforms" not in runner["build"]  # the usual builder makes one platform at a time
    (models,) = runner["volumes"]
    assert models["read_only"]
    assert not models["bind"]["create_host_path"]


def test_what_images_copy_is_there():
    root, copied = COMPOSE.parents[1], []
    for file in ("Dockerfile", "Dockerfile.runner"):
        lines = [line.split() for line in (root / "docker" / file).read_text().splitlines()]
        copied += [name for line in lines if line[:1] == ["COPY"] and "--from" not in line[1] for name in line[1:-1]]
    assert "stages/devices/runner.py" in copied
    assert not [name for name in copied if not (root / name).exists()]
