"""Commands in this process, for tests of parts of one's own."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from eegm2.errors import EEGM2Error


def run_command(app: Any, words: list[str], *, fails: bool = False) -> str:
    """Run a command in this process; return what it printed, or the error's text where it is to fail."""
    done = CliRunner().invoke(app, words)
    if fails:
        assert isinstance(done.exception, EEGM2Error), done.output
        return str(done.exception)
    if done.exception is not None:
        raise done.exception
    return str(done.output)
