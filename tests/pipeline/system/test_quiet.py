"""Check silence that keeps the messages."""

from __future__ import annotations

import logging
import os
import warnings

import pytest

from pipeline.system.quiet import quiet


def test_what_is_written_to_stderr_is_kept_and_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet() as silence:
        os.write(2, b"from C++\n")
        warnings.warn("a warning", stacklevel=1)  # an error in these tests, if it came through
        assert silence.text() == "from C++"
        os.write(2, b"more")
        assert silence.text().endswith("more")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_silence_can_be_lifted_for_a_callback(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet() as silence:
        os.write(2, b"unheard")
        with silence.lifted():
            os.write(2, b"progress")
        os.write(2, b"unheard")
        assert silence.text() == "unheardunheard"
    assert capfd.readouterr().err == "progress"


def test_stderr_comes_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), quiet():
        raise KeyError
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_the_root_logger_gets_no_handler_for_good() -> None:
    root = logging.getLogger()
    before = list(root.handlers)
    for handler in before:
        root.removeHandler(handler)
    try:
        with quiet():
            logging.warning("this would install a handler")  # noqa: LOG015 - what a library does
        assert root.handlers == []
    finally:
        for handler in before:
            root.addHandler(handler)
