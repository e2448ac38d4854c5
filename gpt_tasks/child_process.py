"""This project's own commands in a process of their own, which takes its memory along when it ends."""

import os
import subprocess
import sys
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[1]


def start_command(*arguments: str) -> subprocess.Popen:
    """Starts `python -m ARGUMENTS`; what it says on standard error can be read line by line. Ctrl-C in the terminal
    ends it too."""
    path = os.pathsep.join(filter(None, [str(_PROJECT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONPATH": path},
    )


def failure_of(child: subprocess.Popen, said: list[str]) -> str:
    """Why a command that has ended failed, by the last lines that it said."""
    return "\n".join(line.removeprefix("error: ") for line in said[-5:]) or f"exit status {child.returncode}"
