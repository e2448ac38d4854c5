"""`python -m compression COMMAND`: a table of commands, each in a file of its own under `commands`."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends quietly; `run` handles it later

from compression.commands import (
    average,
    bench,
    calibrate,
    check,
    distill,
    export,
    inspect,
    prune,
    quantize,
    report,
    serve_static,
)
from compression.commands import run as run_recipe
from gpt_tasks.command_line import run

COMMANDS = {
    "export": export,
    "quantize": quantize,
    "prune": prune,
    "distill": distill,
    "average": average,
    "run": run_recipe,
    "report": report,
    "calibrate": calibrate,
    "check": check,
    "bench": bench,
    "inspect": inspect,
    "serve-static": serve_static,
}

if __name__ == "__main__":
    run("compression", "Makes a small GPT small and fast on a CPU, and says what that cost.", COMMANDS)
