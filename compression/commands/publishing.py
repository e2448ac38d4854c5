"""--push: an exported folder goes to a hub."""

import argparse
import sys

from compression.push import push, require_repository_name
from gpt_tasks.errors import UserError


def add_push_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("hub")
    group.add_argument(
        "--push",
        metavar="REPO",
        help="upload the folder to this model on the hub (owner/name) when it is written, with its README.md as model "
        "card. The token is that of 'hf auth login', or in HF_TOKEN",
    )
    group.add_argument("--private", action="store_true", help="the model on the hub is made private, if it is new")


def require_pushable(arguments: argparse.Namespace) -> None:
    """
    Raises:
        UserError: --private alone, a name that no hub takes, no token.
    """
    if arguments.push is None:
        if arguments.private:
            raise UserError("--private says how --push makes the model on the hub. Give --push REPO too.")
        return
    require_repository_name(arguments.push, token_too=not arguments.dry_run)


def publish(arguments: argparse.Namespace) -> None:
    """Uploads, if that was asked for."""
    if arguments.push is None:
        return
    if arguments.dry_run:
        kind = "a private model" if arguments.private else "a model"
        sys.stderr.write(f"It would be uploaded to {arguments.push} on the hub, {kind} if it is new.\n")
        return
    address = push(arguments.out, arguments.push, arguments.private)
    sys.stderr.write(f"uploaded to {address}\n")
