"""Opens the page. `python app.py`; the port comes from GRADIO_SERVER_PORT (7860 if unset)."""

import os
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from gpt_tasks.backbone.backbone import BackboneInBackground
from gpt_tasks.progress_output import make_reporter

DEFAULT_PORT = 7860


def main() -> None:
    with make_reporter("bar" if sys.stderr.isatty() else "none") as report:
        background = BackboneInBackground(report)
        background.start()
        # Imported while the model loads: Gradio takes longer to import than the model to load.
        from gpt_tasks.ui.page import build_page, launch_options

        page = build_page(background)
        try:
            page.launch(server_port=_port(), **launch_options())
        except OSError as error:  # a port that is taken
            sys.exit(f"error: {error} Name another port in GRADIO_SERVER_PORT.")


def _port() -> int:
    given = os.environ.get("GRADIO_SERVER_PORT", "")
    if given and not (given.isdigit() and 0 < int(given) < 65536):
        sys.exit(f"error: GRADIO_SERVER_PORT is {given!r}, not a port number.")
    return int(given or DEFAULT_PORT)


if __name__ == "__main__":
    main()
