"""Opens the page. `python app.py`; the port comes from GRADIO_SERVER_PORT (7860 if unset)."""

import os
import signal
import sys
import warnings

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends quietly

from gpt_tasks.backbone.backbone import BackboneInBackground, named_artifact
from gpt_tasks.errors import UserError
from gpt_tasks.memory import return_large_blocks
from gpt_tasks.progress_output import make_reporter
from gpt_tasks.tasks.registry import switched_off

PORT_VARIABLE = "GRADIO_SERVER_PORT"
DEFAULT_PORT = 7860


def main() -> None:
    port = take_port()
    return_large_blocks()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    warnings.filterwarnings("ignore", message=".*HTTP_422.*")  # Gradio's own business, at every click
    with make_reporter("bar" if sys.stderr.isatty() else "none") as report:
        background = BackboneInBackground(report)
        background.start()
        # Imported while the model loads: Gradio takes longer to import than the model to load.
        from gpt_tasks.ui.page import build_page, launch_options

        page = build_page(background, tasks_off())
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ask_no_proxy()
        try:
            # Not _frontend: Gradio would ask for the page and fail after three seconds without an answer, which a busy
            # machine may well take while it builds the model.
            page.launch(server_port=port, _frontend=False, **launch_options())
        except OSError:
            sys.exit(f"error: The port {port} is taken. Name another one in {PORT_VARIABLE}.")


def ask_no_proxy() -> None:
    """Gradio calls its own server when it starts: a proxy that is set for the network must not come between."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))


def tasks_off() -> dict[str, UserError]:
    """What the model that $GPT_TASKS_MODEL names isn't made for. (The default model is made for all.)"""
    try:
        artifact = named_artifact()
        return {} if artifact is None else switched_off(artifact.load_tokenizer())
    except UserError:
        return {}  # the page's banner says what is wrong with it, as soon as it is loaded


def take_port() -> int:
    """The port asked for. The variable is taken away: Gradio would read it too, and fail on nonsense."""
    given = os.environ.pop(PORT_VARIABLE, "").strip() or str(DEFAULT_PORT)
    if not (given.isascii() and given.isdigit() and 0 < int(given) < 65536):
        sys.exit(f"error: {PORT_VARIABLE} is {given!r}, not a port number between 1 and 65535.")
    return int(given)


if __name__ == "__main__":
    main()
