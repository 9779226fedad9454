import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reports import command_lines
from pipeline.reports.command_lines import (
    checkout,
    install,
    install_locked,
    install_optional,
    note_of,
    secateur,
    stands_for,
)
from pipeline.store import STORE_VARIABLE, default_store
from pipeline.system.installed import optional_requirements


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))))
def test_a_shell_reads_the_words_that_were_given(words):
    assert shlex.split(secateur(*words)) == ["secateur", *words]


def test_a_store_is_named_where_another_one_would_be_looked_into(monkeypatch, tmp_path):
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    mine = tmp_path / "my store"
    assert secateur("show", "3f2a", store=mine) == f"secateur show 3f2a --store '{mine}'"
    assert secateur("show", "3f2a", store=default_store()) == "secateur show 3f2a"
    monkeypatch.setenv(STORE_VARIABLE, str(mine))
    assert secateur("show", "3f2a", store=mine) == "secateur show 3f2a"
    monkeypatch.chdir(tmp_path)
    assert secateur("show", "3f2a", store=Path("my store")) == "secateur show 3f2a"
    assert secateur("show", "3f2a", store=default_store()) == f"secateur show 3f2a --store {default_store()}"


def test_without_the_command_on_the_path_it_is_told_what_it_stands_for(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    short = stands_for()
    assert note_of("  secateur show 3f2a") == f"(`secateur` stands for {short})"
    assert note_of("run again") is None
    done = subprocess.run([*shlex.split(short), "version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("secateur ")
    monkeypatch.chdir(Path(sys.executable).parent)
    assert stands_for() == "secateur"
    monkeypatch.setattr(sys, "executable", "/opt/a python/bin/python")
    assert stands_for() == "'/opt/a python/bin/python' -m pipeline"
    (tmp_path / "secateur").write_text("#!/bin/sh\n")
    (tmp_path / "secateur").chmod(0o755)
    assert stands_for() is None


@pytest.mark.parametrize("inside", [True, False])
def test_packages_are_installed_by_the_pip_that_there_is(monkeypatch, inside):
    monkeypatch.setattr(command_lines.PathFinder, "find_spec", lambda name: inside or None)
    command = shlex.split(install("--no-deps", "a package"))
    assert command[-3:] == ["install", "--no-deps", "a package"]
    assert ("--python" in command) is not inside
    assert sys.executable in command
    assert command[1:3] == ["-m", "pip"]


def test_what_is_printed_here_reaches_a_pip():
    command = shlex.split(install("x"))[:-2]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pip ")


def test_optional_packages_are_installed_as_our_extras_name_them():
    required = optional_requirements()
    assert install_optional("openvino") == install("--no-deps", required["openvino"])
    assert install_optional("ethos-u-vela") == install(required["ethos-u-vela"])
    assert "==" in required["openvino"] != "openvino"
    assert ">=" in required["ethos-u-vela"]
    assert install_optional("no-such-package") == install("no-such-package")


def test_the_lock_and_the_project_are_named_where_they_lie():
    assert (checkout() / "pyproject.toml").is_file()
    lock = Path(shlex.split(install_locked())[-1])
    assert lock.is_absolute()
    assert lock.is_file()
