"""Check where targets are found, and that whatever a process does ends as a measurement or as one error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import DeviceError, RecipeError
from stages.devices.target import BUILTIN, Sampling, device_fingerprint, find_target, measure, run_command, target_names

BRIEF = Sampling(seconds=0.01, min_iterations=3)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_measurement_comes_from_a_fresh_process(model_file: Path) -> None:
    first, second = (measure("cpu", model_file, Sampling(seconds=0.02, seed=4), "model") for _ in range(2))
    assert first.output_digests() == second.output_digests()
    assert first.samples_ns != second.samples_ns
    assert first.seed == 4
    assert len(first.samples_ns) >= 20


def test_a_damaged_model_is_named(tmp_path: Path, tflite_file: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(tflite_file.read_bytes()[:500])
    with pytest.raises(DeviceError, match="Flatbuffer") as caught:
        measure("cpu", path, BRIEF, "candidate model.tflite")
    assert caught.value.where == "candidate model.tflite"


def test_a_crash_names_the_signal_and_the_last_words() -> None:
    program = "import os, sys; print('about to', 'fail', file=sys.stderr, flush=True); os.kill(os.getpid(), 11)"
    with pytest.raises(DeviceError, match="killed by SIGSEGV") as caught:
        run_command(python(program), "model", 30)
    assert caught.value.hint == "about to fail"


def test_an_exit_status_is_told_with_the_last_lines_only() -> None:
    program = "import sys; print(*range(100), sep='\\n', file=sys.stderr); sys.exit(9)"
    with pytest.raises(DeviceError, match="exit status 9") as caught:
        run_command(python(program), "model", 30)
    assert caught.value.hint == "95\n96\n97\n98\n99"


@pytest.mark.parametrize("printed", ["", "hello", "[1]", '{"schema_version": 1}', '{"schema_version": 1}{}'])
def test_nonsense_on_stdout_is_no_measurement(printed: str) -> None:
    with pytest.raises(DeviceError, match="no valid measurement"):
        run_command(python(f"print({printed!r})"), "model", 30)


def test_a_hang_ends() -> None:
    with pytest.raises(DeviceError, match=r"within 0\.5 s"):
        run_command(python("import time; time.sleep(60)"), "model", 0.5)


def test_a_program_that_is_not_there_is_a_device_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="could not be started"):
        run_command([str(tmp_path / "nothing")], "model", 1)


def test_an_unknown_target_is_refused(tflite_file: Path) -> None:
    with pytest.raises(RecipeError, match="no target 'toaster'"):
        measure("toaster", tflite_file, BRIEF, "model")
    with pytest.raises(RecipeError, match="no target 'toaster'"):
        device_fingerprint("toaster")


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
        ("kind: qemo\n", "'qemo' is not a kind"),
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


def test_times_of_these_targets_are_refused(tflite_file: Path) -> None:
    from stages.devices.target import Sampling

    for name in ("tflm", "ethos-u55-128"):
        with pytest.raises(DeviceError):
            measure(name, tflite_file, Sampling(), "model")
