"""What the writing tabs share: Write and Stop buttons, examples to click."""

from collections.abc import Callable, Sequence

import gradio as gr

from gpt_tasks.ui.texts import label

CONCURRENCY = {"concurrency_id": "writing", "concurrency_limit": 4}
"""So many visitors write at once, token by token in turn; the others wait in Gradio's queue."""


class RunButtons:
    """Made inside a tab's layout, wired by `connect`."""

    def __init__(self, text: str) -> None:
        self.start = gr.Button(label(text), variant="primary", elem_classes="start")
        self.stop = gr.Button(label("stop"), variant="stop", visible=False, elem_classes="stop")

    def connect(self, triggers: Sequence[Callable], function: Callable, inputs: Sequence, outputs: Sequence) -> None:
        """Runs a generator function on any of the triggers, until it is done or Stop is pressed.

        Args:
            triggers: events such as `button.click`
            function: yields values for the outputs
        """
        buttons = [self.start, self.stop]
        runs = []
        for trigger in triggers:
            busy = trigger(_busy, outputs=buttons, queue=False, show_progress="hidden", api_visibility="private")
            run = busy.then(function, inputs, outputs, show_progress="hidden", api_visibility="private", **CONCURRENCY)
            run.then(_idle, outputs=buttons, queue=False, show_progress="hidden", api_visibility="private")
            runs.append(run)
        self.stop.click(
            _idle, outputs=buttons, cancels=runs, queue=False, show_progress="hidden", api_visibility="private"
        )


def _busy() -> tuple:
    return gr.update(visible=False), gr.update(visible=True)


def _idle() -> tuple:
    return gr.update(visible=True), gr.update(visible=False)


def examples(rows: Sequence[Sequence[str]], inputs: Sequence[gr.components.Component]) -> None:
    """A button an example; it shows the first field and fills all inputs.

    (Gradio's own Examples can't translate its headings, and fails in a tab that isn't open.)
    """
    with gr.Column(elem_classes="examples"):
        gr.Markdown(label("examples"), elem_classes="examples-title")
        with gr.Row(elem_classes="examples-row"):
            for row in rows:
                button = gr.Button(row[0].strip().replace("\n", " "), size="sm", elem_classes="example", min_width=60)
                button.click(
                    _filler(row), outputs=list(inputs), queue=False, show_progress="hidden", api_visibility="private"
                )


def _filler(row: Sequence[str]) -> Callable:
    return lambda: row[0] if len(row) == 1 else tuple(row)
