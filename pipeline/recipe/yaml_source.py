"""Parse a recipe's text to plain data, with the line and column of every key for error messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.scalarint import ScalarInt

from pipeline.errors import RecipeError
from pipeline.records.values import Json

LARGEST_INTEGER = 2**53 - 1  # largest that canonical JSON (RFC 8785) holds exactly
MOST_CHARACTERS = 1 << 20  # of a file: a recipe has thousands, and the parser takes minutes for other tools' files
MOST_PARTS = 20_000  # of a document whose aliases are expanded: nine lines can stand for a billion parts
DEEPEST = 50  # levels: what is deeper fails elsewhere, where depends on how much of the stack is in use
Path = tuple[str | int, ...]


@dataclass
class YamlSource:
    """Hold plain data (dict, list, str, int, float, bool, None) and where each part of it was written."""

    file: FilePath
    data: Json
    marks: dict[Path, str] = field(default_factory=dict)

    def where(self, path: Path) -> str:
        """Return `file:line:column   key.path` of a part, or of the nearest enclosing part that was written."""
        known = path
        while known and known not in self.marks:
            known = known[:-1]
        return f"{self.marks.get(known, str(self.file))}   {dotted(path)}".rstrip()

    def where_is(self, value: object, path: Path) -> str:
        """Return `where` of the first place at or below `path` that holds `value`, or of `path` itself."""
        data = self.data
        for part in path:
            data = data[part]
        return self.where(next((inner for inner, held in _places(data, path) if held == value), path))


def _places(data: Json, path: Path) -> Iterator[tuple[Path, Json]]:
    """Yield all parts of plain data, with their paths, in the order in which they were written."""
    yield path, data
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield from _places(value, (*path, key))


def dotted(path: Path) -> str:
    """Format a path like `stages[1].prune.ratio`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def read_yaml(file: FilePath) -> YamlSource:
    """Parse a YAML 1.2 file; RecipeError with line and column if it is not YAML."""
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(MOST_CHARACTERS + 1)
    except FileNotFoundError as error:
        raise RecipeError("the recipe is not there", where=str(file)) from error
    except IsADirectoryError as error:
        raise RecipeError("this is a folder", where=str(file), hint="name the recipe's file in it") from error
    except UnicodeDecodeError as error:
        what = f"this is not UTF-8 text (byte {error.start + 1}), and a recipe must be"
        raise RecipeError(what, where=str(file), hint="name a YAML file, or save it as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"the recipe can't be read: {error.strerror or error}", where=str(file)) from error
    if len(text) > MOST_CHARACTERS:
        raise RecipeError(f"the file has more than {MOST_CHARACTERS} characters: no recipe has", where=str(file))
    node = parse_yaml(text, str(file))
    source = YamlSource(file, None)
    source.data = _plain(node, (), source)
    if not isinstance(source.data, dict):
        raise RecipeError("a recipe is a map of settings", where=f"{file}:1:1", hint="begin with `name: …`")
    return source


def parse_yaml(text: str, name: str) -> Any:
    """Return the document as ruamel's nodes that know their place; RecipeError if it is not YAML."""
    try:
        return YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = re.split(r"[\n\r]", str(error.problem or error.context or "not YAML"))[0]
        hint = "check indentation, quotes, double keys"
        if r"'\t'" in problem:
            problem, hint = "a tab", "indent with spaces: YAML takes no tabs for it"
        raise RecipeError(f"not valid YAML: {problem}", where=where, hint=hint) from error
    except YAMLError as error:
        raise RecipeError(f"not valid YAML: {error}", where=name) from error
    except RecursionError as error:
        raise RecipeError("the document is nested too deeply", where=name) from error
    # ruamel.yaml 0.19 lets these through from values that don't fit their type: the date `2024-13-45`, `!!int x`,
    # `!!bool x`, `!!float`, `!!set x`, a map as a key of a set.
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        what = f"not valid YAML: a value does not fit its type ({type(error).__name__}: {error})"
        raise RecipeError(what, where=name, hint="check dates, and values that have a tag (`!!…`)") from error


def plain_value(text: str) -> Json:
    """Parse a value as YAML 1.2 does: `1e-3` is a number, `no` is a string."""
    return _plain(parse_yaml(text, "--set"), (), YamlSource(FilePath("--set"), None))


def _plain(node: Any, path: Path, source: YamlSource) -> Json:
    if isinstance(node, CommentedMap):
        return {str(key): _plain_part(node, key, value, (*path, str(key)), source) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain_part(node, index, value, (*path, index), source) for index, value in enumerate(node)]
    # ruamel's scalars remember how they were written (`0.5`, `0x1f`, `&a true`), and its ScalarBoolean is an int, which
    # JSON would write as 1.
    if isinstance(node, ScalarBoolean):
        return bool(node)
    for kind, base in ((ScalarFloat, float), (ScalarInt, int)):
        if isinstance(node, kind):
            return base(node)
    if type(node) is int and abs(node) > LARGEST_INTEGER:
        what = f"{dotted(path)}: {node} is larger than any setting takes"
        raise RecipeError(what, where=source.where(path), hint=f"the largest is {LARGEST_INTEGER}")
    if node is None or type(node) in (bool, int, float):
        return node
    return str(node)  # quoted text, and dates: settings have none, so they are text too


def _plain_part(node: CommentedMap | CommentedSeq, key: Any, value: Any, path: Path, source: YamlSource) -> Json:
    """Return a part of a map or list as plain data, and note where it was written."""
    # Keys from a merge (<<) were written elsewhere, and a list with a tag has no places: both use the whole's own.
    line, column = (node.lc.data or {}).get(key, (node.lc.line, node.lc.col))[:2]
    source.marks[path] = f"{source.file}:{(line or 0) + 1}:{(column or 0) + 1}"
    if len(path) > DEEPEST:
        raise RecipeError(f"the document is nested too deeply: no recipe has {DEEPEST} levels", where=str(source.file))
    if len(source.marks) > MOST_PARTS:
        what = f"the document has more than {MOST_PARTS} parts once its aliases are expanded: no recipe has"
        raise RecipeError(what, where=str(source.file))
    return _plain(value, path, source)
