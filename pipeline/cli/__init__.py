"""Build the command line and catch errors, here and nowhere else: known ones become one screen, unknown ones a log.

Nothing that is imported here imports TensorFlow, numpy or a runtime.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import traceback
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module

import typer

from pipeline.contracts.discovery import command_modules
from pipeline.errors import PLEASE_REPORT, SecateurError
from pipeline.reports.command_lines import note_of

INTERNAL_ERROR, USAGE = 3, 2
COMMANDS = {
    "run": "Run a recipe; what is cached is not done again.",
    "plan": "Say what would run, and why.",
    "show": "Show a run or an artifact, and where it came from.",
    "export": "Copy a run's files out, as FORMAT/SCHEME/name.",
    "store": "List, check, keep and free what is stored.",
    "doctor": "Check this installation.",
    "schema": "Print the JSON Schema of recipes.",
    "version": "Print the version.",
}


def build_app(names: Iterable[str]) -> typer.Typer:
    """Build the command line from these commands: modules of this package with a `command` or their own `app`."""
    app = typer.Typer(
        name="secateur",
        help="Make trained Keras models small and fast for edge devices, and prove that they still work.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(lambda: None)  # without it, an app with a single command would not accept the command's name
    for name in names:
        own = name in COMMANDS
        module = import_module(f"pipeline.cli.{name}" if own else command_modules()[name])
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name, help=COMMANDS[name] if own else module.app.info.help)
        else:
            app.command(name=name, help=COMMANDS[name] if own else module.command.__doc__)(module.command)
    return app


def _named() -> list[str]:
    """Return the command named on the command line, or all: importing the others would take time."""
    named = sys.argv[1:2]
    if named and named[0] in COMMANDS:
        return named
    known = [*COMMANDS, *sorted(command_modules())]
    return [name for name in named if name in known] or known


class _Output(io.TextIOWrapper):
    """Discard output once the reader is gone (`| head`), so that the exit code stays the verdict.

    Without it click exits with 1, which means a failed gate.
    """

    def write(self, text: str) -> int:
        with suppress(BrokenPipeError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(BrokenPipeError):
            super().flush()


def main() -> None:
    """Run the `secateur` command and exit with DESIGN's exit codes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot print → must not end a run
        # The old stream would close its buffer when it is freed: `sys.__stdout__` and `sys.__stderr__` keep it.
        if type(stream) is io.TextIOWrapper:
            setattr(sys, name, _Output(stream.buffer, stream.encoding, "replace", line_buffering=stream.line_buffering))
    try:
        code = build_app(_named())(standalone_mode=False)  # click returns what typer.Exit carried
    except SecateurError as error:
        _report(error)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the border of the program
        sys.exit(_unexpected(error))
    sys.exit(code or 0)


def _unexpected(error: Exception) -> int:
    """Report an unexpected error: usage errors belong to the parser; anything else is our bug and goes to a file."""
    # By its attributes: the class that has them is in a private package of typer 0.29, its copy of click.
    show_usage = getattr(error, "show", None)
    if show_usage is not None and hasattr(error, "exit_code"):
        show_usage()
        _print_error_document(str(error), None, None, USAGE)
        return USAGE
    log, what = _log(error), f"internal error: {type(error).__name__}: {error}"
    print(f"error: {what}\n  log: {log}", file=sys.stderr)
    _print_error_document(what, log, None, INTERNAL_ERROR)
    return INTERNAL_ERROR


def _log(error: Exception) -> str:
    """Write an error's whole traceback, with its causes, to a file and return the path."""
    with tempfile.NamedTemporaryFile("w", prefix="secateur-", suffix=".log", delete=False) as log:
        log.write(f"{sys.argv}\n")
        traceback.print_exception(error, file=log)
    return log.name


def _report(error: SecateurError) -> None:
    """Print what, where, what to do and what else failed; with `--json` also a document on stdout if none yet."""
    lines = [f"error: {error.what}", *(f"  {text}" for text in (error.where, error.hint) if text)]
    if error.hint == PLEASE_REPORT:
        lines.append(f"  log: {_log(error)}")
    lines += [f"also failed: {line}" for line in error.also]
    note = note_of(error.hint or "")
    lines += [f"  {note}"] if note else []
    print("\n".join(lines), file=sys.stderr)
    if not error.printed:
        _print_error_document(error.what, error.where, error.hint, error.exit_code)


def _print_error_document(what: str, where: str | None, hint: str | None, exit_code: int) -> None:
    """Print the error as the only document on stdout, for `--json`."""
    # From the words themselves: the error may be that they can't be parsed.
    if "--json" in sys.argv:
        document = {"what": what, "where": where, "hint": hint, "exit_code": exit_code}
        print(json.dumps({"schema_version": 1, "error": document}, ensure_ascii=False, indent=1))
