"""The one exception that is meant for a person's eyes."""


class UserError(Exception):
    """Something that the person can put right: the message says what to do.

    The command line prints the message and exits with 2; the page shows it as a notice.
    `key` and `values` name the same message in the page's translations
    (`gpt_tasks/ui/locales`); without a key the English message is shown.
    """

    def __init__(self, message: str, *, key: str | None = None, **values: object) -> None:
        super().__init__(message)
        self.key = key
        self.values = values


def first_line(error: Exception) -> str:
    """Of what a library's exception says: enough to go into a sentence of ours."""
    return str(error).strip().split("\n")[0]
