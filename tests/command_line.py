"""Calls the command lines as a person does."""

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from unittest.mock import patch

from gpt_tasks.command_line import run

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_kept = [signal.getsignal(number) for number in _SIGNALS]
_PROGRAMS = {name: import_module(f"{name}.__main__").COMMANDS for name in ("gpt_tasks", "compression")}
for _number, _handler in zip(_SIGNALS, _kept, strict=True):  # importing the programs has set one
    signal.signal(_number, _handler)


@dataclass(frozen=True)
class Done:
    """As much of `subprocess.CompletedProcess` as tests look at."""

    returncode: int
    stdout: str
    stderr: str


class _Text(io.TextIOWrapper):
    """A stream of bytes underneath, as a process's own."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8", write_through=True)

    def close(self) -> None:
        """What was written is read after the command; one of them closes standard error on its way out."""

    def written(self) -> str:
        return self.buffer.getvalue().decode("utf-8")


def call(*arguments, program="gpt_tasks", stdin="", **environment) -> Done:
    """In this process, since the imports of a new one take seconds. An exception that isn't caught fails the test."""
    out, errors = _Text(), _Text()
    handlers = [signal.getsignal(number) for number in _SIGNALS]
    code: object = None
    try:
        with (
            patch.object(sys, "argv", [program, *map(str, arguments)]),
            patch.object(sys, "stdin", _Text(stdin.encode())),
            patch.dict(os.environ, environment),
            redirect_stdout(out),
            redirect_stderr(errors),
        ):
            run(program, "", _PROGRAMS[program])
    except SystemExit as end:
        code = end.code
    finally:
        for number, handler in zip(_SIGNALS, handlers, strict=True):
            signal.signal(number, handler)
    return Done(code if isinstance(code, int) else int(code is not None), out.written(), errors.written())


def call_anew(*arguments, program="gpt_tasks", stdin="", **environment) -> subprocess.CompletedProcess:
    """In a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", program, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )
