"""What the project's command lines share: a table of commands, errors for people, exit codes."""

import argparse
import errno
import signal
import sys
from collections.abc import Mapping
from typing import NoReturn, Protocol

from gpt_tasks.errors import UserError

_INTERRUPTED = 130


class Command(Protocol):
    """A module with these three: SUMMARY is the first line of the help."""

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> None: ...


def run(program: str, description: str, commands: Mapping[str, Command]) -> NoReturn:
    """Runs the command named on the command line and exits: 0 done, 2 a mistake that the person can
    put right (said on standard error), 130 stopped with Ctrl-C."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        subparser = choices.add_parser(
            name,
            help=command.SUMMARY,
            description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A polite kill unwinds like Ctrl-C, so that nothing half-written stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        commands[arguments.command].run(arguments)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped\n")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.stderr.write(f"error: The disk is full ({error.filename or error.strerror}). Make room, and start again.\n")
        sys.exit(2)
    sys.exit(0)
