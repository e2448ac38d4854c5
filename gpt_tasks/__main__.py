"""`python -m gpt_tasks COMMAND`: a table of commands, each in a file of its own under `commands`."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends quietly; `run` handles it later

from gpt_tasks.command_line import run
from gpt_tasks.commands import average, classify, evaluate, extract, generate, prepare, teach, train

COMMANDS = {
    "prepare": prepare,
    "generate": generate,
    "classify": classify,
    "extract": extract,
    "evaluate": evaluate,
    "teach": teach,
    "train": train,
    "average": average,
}

if __name__ == "__main__":
    run("gpt_tasks", "NLP tasks on one small shared GPT.", COMMANDS)
