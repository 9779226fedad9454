import pytest
from typer.testing import CliRunner

from pipeline.cli import build_app


def called(name, *arguments, code=0):
    result = CliRunner().invoke(build_app([name]), [name, *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture
def call():
    """Run a command here, check its exit code, and return what it prints on stdout; our errors are raised."""
    return called
