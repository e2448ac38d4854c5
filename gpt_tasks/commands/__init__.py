"""The commands of `python -m gpt_tasks`, one a file."""
