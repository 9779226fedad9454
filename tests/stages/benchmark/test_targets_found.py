"""Targets are looked up in the recipe's folder, then the user's, then among the built-in ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import RecipeError
from stages.benchmark import find_target, target_names
from stages.benchmark.target import BUILTIN


def test_the_nearest_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    user = tmp_path / "config" / "secateur" / "targets"
    user.mkdir(parents=True)
    recipe = tmp_path / "recipe"
    (recipe / "targets").mkdir(parents=True)
    (recipe / "recipe.yaml").write_text("name: not a target\n")
    assert find_target("cpu", recipe).file == BUILTIN / "cpu.yaml"
    for place, about in ((user, "user"), (recipe, "recipe"), (recipe / "targets", "nearest")):
        (place / "cpu.yaml").write_text(f"kind: cpu\nabout: {about}\naffinity: [0]\n")
        assert find_target("cpu", recipe).settings.about == about
    assert find_target("cpu").settings.about == "user"
    assert "recipe" not in target_names(recipe)
    assert {"cortex-a53", "cortex-a72", "cortex-a76", "cpu", "tflm"} <= set(target_names(recipe))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: qemo\n", "'qemo' is no kind"),
        ("about: x\n", "needs a kind"),
        ("kind: qemu\ncore: cortex-a99\n", "cortex-a99"),
        ("kind: ssh\nhost: -oProxyCommand=x\n", "host"),
        ("kind: cpu\nafinity: [0]\n", "unknown key"),
    ],
)
def test_wrong_descriptions_are_refused_with_their_place(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(RecipeError, match=words) as caught:
        find_target("mine", tmp_path)
    assert "mine.yaml" in str(caught.value.where)


def test_the_command_lists_them_without_anything_heavy() -> None:
    program = (
        "import sys; sys.argv[1:] = ['target', 'list']\n"
        "from pipeline.start import main\n"
        "try: main()\nexcept SystemExit as end: print(end.code)\n"
        "print({'numpy', 'tensorflow', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "cortex-a72" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["0", "set()"]
