"""Check README and guide: snippets are valid, links resolve, commands and options exist. Runs without TensorFlow."""

import ast
import re
import shlex
from functools import cache
from io import StringIO
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

from pipeline.cli import COMMANDS, build_app
from pipeline.contracts.discovery import command_modules, stages
from pipeline.errors import RecipeError
from pipeline.recipe.errors import validate
from pipeline.recipe.recipe import Recipe, RecipeFields
from pipeline.recipe.yaml_source import read_yaml
from pipeline.store.settings import UserSettings
from pipeline.system.installed import optional_requirements
from stages.devices.target import read_target

ROOT = Path(__file__).parents[2]
README, GUIDE = ROOT / "README.md", sorted((ROOT / "docs" / "guide").glob("*.md"))
PAGES = [README, *GUIDE]
LINKING = [
    *PAGES,
    *sorted((ROOT / "docs" / "design").glob("*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks/README.md",
]
IDS = [page.relative_to(ROOT).as_posix() for page in LINKING]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
SETTING = re.compile(r"^(\w+): [\[{].*[\]}]$")
COMMAND = re.compile(r"(?<![\w./-])(?:\.venv/bin/)?secateur ([a-z].*)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
REQUIRED = {  # settings that an inline example may omit, and a recipe can't
    "export": {"formats": ["tflite"]},
    "quantize": {"schemes": ["int8"]},
    "data": {"source": "npz", "path": "data.npz"},
    "model": {"path": "model.keras"},
}


def fences(page, language):
    return [body for found, body in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def inline(page):
    return INLINE.findall(FENCE.sub("", page.read_text(encoding="utf-8")))


def check_snippet(text, folder):
    """Raise RecipeError if a snippet (a recipe, a part of one, stages, a target, or settings) is not valid."""
    data = YAML(typ="safe").load(text)
    if isinstance(data, dict) and "jobs" in data:
        return "workflow"
    if isinstance(data, dict) and "kind" in data:
        (folder / "target.yaml").write_text(text)
        read_target(folder / "target.yaml")
        return "target"
    if isinstance(data, dict) and data.keys() <= UserSettings.model_fields.keys():
        (folder / "settings.yaml").write_text(text)
        validate(UserSettings, data, (), read_yaml(folder / "settings.yaml"))
        return "settings"
    parts = data if isinstance(data, dict) and "stages" in data else part_of(data)
    (folder / "recipe.yaml").write_text(dumped(parts))
    Recipe.load(folder / "recipe.yaml")
    return "recipe"


def part_of(data):
    """Return the smallest recipe around stages or settings."""
    whole = {"name": "part", "model": "model.keras", "stages": ["load"]}
    if isinstance(data, list):
        return whole | {"stages": data}
    if data.keys() & stages().keys():
        (entry,) = data.items()
        return whole | {"stages": [dict([entry])]}
    return whole | data


SNIPPETS = [(page.name, number, text) for page in PAGES for number, text in enumerate(fences(page, "yaml"))]
SETTINGS = sorted(
    {
        text
        for page in PAGES
        for text in inline(page)
        if (found := SETTING.match(text)) and found[1] in {*stages(), *RecipeFields.model_fields} and "…" not in text
    }
)


@pytest.mark.parametrize(("page", "number", "text"), SNIPPETS, ids=[f"{page}-{number}" for page, number, _ in SNIPPETS])
def test_snippets_are_valid(page, number, text, tmp_path):
    assert check_snippet(text, tmp_path) in {"recipe", "target", "workflow", "settings"}


@pytest.mark.parametrize("text", SETTINGS)
def test_settings_in_sentences_are_valid(text, tmp_path):
    ((name, settings),) = YAML(typ="safe").load(text).items()
    if isinstance(settings, dict):
        settings = REQUIRED.get(name, {}) | settings
    assert check_snippet(dumped({name: settings}), tmp_path) == "recipe"


def dumped(data):
    stream = StringIO()
    YAML(typ="safe", pure=True).dump(data, stream)
    return stream.getvalue()


def test_enough_is_checked():
    assert len(SNIPPETS) > 30
    assert len(SETTINGS) > 3


@pytest.mark.parametrize(
    "text",
    [
        "- prune: {ratoi: 0.5}",
        "- prune: {ratio: 1.5}",
        "- repeat: {times: 2, stages: [prune: {ratoi: 0.5}]}",
        "- prone",
        "data: {source: npz, path: data.npz, tset: test}",
        "model: {path: model.keras, trusts: true}",
        "gates: [{metric: tflite/int8.accuracy_drop, maximum: 0.02}]",
        "kind: ssh\nhots: pi",
        "export: {formats: [tflight]}",
        "name: mine\nmodel: model.keras\nstages: [load]\nsead: 7",
    ],
)
def test_a_wrong_snippet_is_seen(text, tmp_path):
    with pytest.raises(RecipeError):
        check_snippet(text, tmp_path)


def test_a_wrong_setting_in_the_guide_is_seen(tmp_path):
    text = fences(README, "yaml")[0]
    assert "round_to" in text
    with pytest.raises(RecipeError, match="round_too"):
        check_snippet(text.replace("round_to", "round_too"), tmp_path)


def commands_in(page):
    """Return every `secateur …` in a page's code: in its blocks, its workflows, and its sentences."""
    for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "yaml" and "jobs:" in body:
            jobs = YAML(typ="safe").load(body)["jobs"].values()
            lines = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
        else:
            lines = body.replace("\\\n", " ").splitlines()
        yield from (found[1] for line in lines if (found := COMMAND.search(line.partition("   ")[0])))
    yield from (found[1] for text in inline(page) if (found := COMMAND.match(text)))


@cache
def app():
    return typer.main.get_command(build_app([*COMMANDS, *command_modules()]))


def wrong_with(line):
    """Return what is wrong with the words after `secateur`: an unknown command or option; None if nothing is."""
    words = shlex.split(line.partition(" # ")[0].partition(" > ")[0])
    found = app()
    while hasattr(found, "commands"):
        found = found.commands.get(words.pop(0) if words else "")
    if found is None:
        return f"no such command: secateur {line}"
    known = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help"
    }
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
    return f"no such option: {unknown[0]} of secateur {line}" if unknown else None


@pytest.mark.parametrize("page", LINKING, ids=IDS)
def test_commands_and_options_exist(page):
    assert not [problem for line in commands_in(page) if (problem := wrong_with(line))]


def test_wrong_commands_are_seen():
    assert wrong_with("rum configs/demo.yaml")
    assert wrong_with("run configs/demo.yaml --untill prune")
    assert wrong_with("target check cpu")
    assert not wrong_with("target setup cortex-a72")
    assert not wrong_with("compare a b --tolerance size=0%")
    lines = list(commands_in(ROOT / "docs" / "guide" / "ci.md"))
    assert any("--format github" in line for line in lines)  # of the workflow, over two lines


@pytest.mark.parametrize("page", PAGES, ids=IDS[: len(PAGES)])
def test_options_in_sentences_exist(page):
    groups = app().commands.values()
    leaves = [one for group in groups for one in getattr(group, "commands", {"": group}).values()]
    known = {
        option
        for leaf in leaves
        for parameter in leaf.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help"}
    named = {text.split()[0] for text in inline(page) if text.startswith("--")}
    assert named - {"--platform"} <= known  # that one is docker's


def test_every_command_is_in_the_guide():
    text = (ROOT / "docs" / "guide" / "commands.md").read_text(encoding="utf-8")
    assert not [name for name in (*COMMANDS, *command_modules()) if f"`secateur {name}" not in text]


def anchors(page):
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken_links(page):
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not re.match(r"[a-z]+:", link) and (not target.exists() or (anchor and anchor not in anchors(target))):
            yield link


@pytest.mark.parametrize("page", LINKING, ids=IDS)
def test_links_resolve(page):
    assert not list(broken_links(page))


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n[a](page.md#title) [b](other.md) [c](page.md#nowhere) [d](https://example.org/x)\n")
    assert list(broken_links(page)) == ["other.md", "page.md#nowhere"]


@pytest.mark.parametrize("page", PAGES, ids=IDS[: len(PAGES)])
def test_files_that_pages_name_are_there(page):
    named = {text for text in inline(page) if re.fullmatch(r"(configs|docker|docs|benchmarks|findings)/[\w./-]*", text)}
    assert not [name for name in named - {"configs/images.npz"} if not (ROOT / name).exists()]  # that one is the user's


def test_installing_gives_every_optional_package_as_our_extras_require_it():
    text = (ROOT / "docs" / "guide" / "installing.md").read_text(encoding="utf-8")
    assert {"openvino", "ethos-u-vela"} <= optional_requirements().keys()
    assert not [requirement for requirement in optional_requirements().values() if requirement not in text]


def test_python_snippets_import_what_is_there():
    for page in PAGES:
        for text in fences(page, "python"):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom) and not str(node.module).startswith("dask_"):  # packages of others
                    package = ROOT.joinpath(*str(node.module).split("."), "__init__.py").read_text(encoding="utf-8")
                    assert all(f'"{alias.name}"' in package for alias in node.names)


def test_the_readme_is_short_and_leads_to_every_page():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 110
    assert not [page.name for page in GUIDE if f"(docs/guide/{page.name})" not in text]


@pytest.mark.parametrize("page", GUIDE, ids=[page.stem for page in GUIDE])
def test_a_page_begins_with_what_it_is_for(page):
    title, empty, first = page.read_text(encoding="utf-8").splitlines()[:3]
    assert title.startswith("# ")
    assert not empty
    assert first.startswith("This page ")


def test_no_page_holds_both_sides_of_a_merge():
    pages = [*LINKING, ROOT / "CHANGELOG.md"]
    held = [str(page) for page in pages if re.search(r"^(<{7}|>{7}) ", page.read_text(encoding="utf-8"), re.MULTILINE)]
    assert held == []
