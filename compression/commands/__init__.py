"""The commands of `python -m compression`, one a file."""
