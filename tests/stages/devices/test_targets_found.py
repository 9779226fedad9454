"""Check that targets are looked up in the recipe's folder, then the user's, then among the built-in ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import RecipeError
from stages.devices.target import BUILTIN, find_target, target_names


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


@pytest.mark.parametrize(
    "recipe", ["name: tflm\nstages: [load]\n", "{name: x, data: {label: {kind: [a]}}}\n", "- no\n: map"]
)
def test_a_recipe_called_like_a_target_takes_no_place(tmp_path: Path, recipe: str) -> None:
    (tmp_path / "tflm.yaml").write_text(recipe)
    found = find_target("tflm", tmp_path)
    assert (found.file, found.shadow) == (BUILTIN / "tflm.yaml", None)
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    with pytest.raises(RecipeError, match="a target needs a kind"):
        find_target("mine", tmp_path)


@pytest.mark.parametrize(
    "text", ["kind: cpu\naffinity: [0]\n", "{kind: cpu, affinity: [0]}\n", "'kind': cpu\naffinity: [0]"]
)
def test_a_target_in_the_place_of_a_built_in_one_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu.yaml").write_text(text)
    found = find_target("cpu", tmp_path)
    assert found.settings.affinity == (0,)
    assert (
        found.shadow
        == f"target cpu is {tmp_path / 'cpu.yaml'}, not the built-in one: rename the file if that is not meant"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "target", "list", "--json", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    notes = {row["name"]: row["note"] for row in json.loads(done.stdout)["targets"]}
    assert (notes["cpu"], notes["tflm"]) == (found.shadow, "")


def test_where_a_target_is_found_elsewhere_its_setup_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my boards"
    folder.mkdir()
    (folder / "pi.yaml").write_text("kind: ssh\nhost: pi\n")
    target = find_target("pi", folder)
    assert target.set_up_command == f"secateur target setup pi --folder '{folder}'"
    monkeypatch.chdir(folder)
    assert target.set_up_command == "secateur target setup pi"
    assert find_target("cpu").set_up_command == "secateur target setup cpu"


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
