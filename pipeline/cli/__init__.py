"""The command line. Errors are caught here and nowhere else: known ones become one screen, unknown ones a log file.

Nothing that is imported here imports TensorFlow, numpy or a runtime.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import traceback
from types import FrameType

import typer

from pipeline.cli import doctor, export, plan, run, schema, show, store, version
from pipeline.errors import SecateurError

INTERNAL_ERROR, USAGE = 3, 2

app = typer.Typer(
    name="secateur",
    help="Make trained Keras models small and fast for edge devices, and prove that they still work.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command(name="run", help="Run a recipe; what is cached is not done again.")(run.command)
app.command(name="plan", help="Say what would run, and why.")(plan.command)
app.command(name="show", help="Show a run or an artifact, and where it came from.")(show.command)
app.command(name="export", help="Copy a run's files out, as FORMAT/SCHEME/name.")(export.command)
app.add_typer(store.app, name="store", help="Look into the artifact store.")
app.command(name="doctor", help="Check this installation.")(doctor.command)
app.command(name="schema", help="Print the JSON Schema of recipes.")(schema.command)
app.command(name="version", help="Print the version.")(version.command)


def main() -> None:
    """The `secateur` command: runs and exits with DESIGN's exit codes."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(standalone_mode=False)  # click returns what typer.Exit carried
    except SecateurError as error:
        _report(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(run.INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the border of the program
        sys.exit(_unexpected(error))
    sys.exit(code or 0)


def _unexpected(error: Exception) -> int:
    """Usage errors of the command line parser are its own; anything else is ours, and goes to a file."""
    show_usage = getattr(error, "show", None)
    if show_usage is not None and hasattr(error, "exit_code"):
        show_usage()
        return USAGE
    with tempfile.NamedTemporaryFile("w", prefix="secateur-", suffix=".log", delete=False) as log:
        log.write(f"{sys.argv}\n")
        traceback.print_exception(error, file=log)
    print(f"error: internal error: {type(error).__name__}: {error}\n  log: {log.name}", file=sys.stderr)
    return INTERNAL_ERROR


def _report(error: SecateurError) -> None:
    """What, where, what to do; with `--json` also as the one document on stdout, if none was printed before."""
    lines = [f"error: {error.what}", *(f"  {text}" for text in (error.where, error.hint) if text)]
    print("\n".join(lines), file=sys.stderr)
    if "--json" in sys.argv and not error.printed:
        document = {"what": error.what, "where": error.where, "hint": error.hint, "exit_code": error.exit_code}
        print(json.dumps({"schema_version": 1, "error": document}, ensure_ascii=False, indent=1))


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
