"""Calls the command lines as a person does."""

import os
import subprocess
import sys


def call(*arguments, program="gpt_tasks", stdin="", **environment):
    return subprocess.run(
        [sys.executable, "-m", program, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )
