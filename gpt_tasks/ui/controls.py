"""What the tabs share: Start and Stop buttons, examples to click."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from types import MappingProxyType
from weakref import WeakSet

import gradio as gr

from gpt_tasks.ui.texts import label

CONCURRENCY = {"concurrency_id": "writing", "concurrency_limit": 4}
"""So many visitors write at once, token by token in turn; the others wait in Gradio's queue."""
QUIETLY = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""For events that only change the page."""
_LONGEST_STEP_SECONDS = 5  # reading a piece of a prompt, on a busy machine


def new_choices(choices: list[tuple[str, str]], before: object, kept: object) -> object:
    """For a component whose choices are others now. A value is set only where the old one is gone: set again, it would
    undo what the visitor has chosen since."""
    return gr.update(choices=choices) if kept == before else gr.update(choices=choices, value=kept)


class Stopped(Exception):
    """The visitor pressed Stop while something was read."""


class Run:
    """One visitor's run of one tab: lets another event end it, and wait for that."""

    def __init__(self) -> None:
        self.stop_asked = Event()
        self.discarded = False
        """nobody wants to see how far it came"""
        self.ended = Event()

    def go_on(self) -> None:
        """
        Raises:
            Stopped: Stop was pressed.
        """
        if self.stop_asked.is_set():
            raise Stopped


class RunButtons:
    """Start and Stop, made inside a tab's layout and wired by `connect`.

    Both stay where they are, one of them enabled: a double click on Start must not hit Stop. Stop asks
    the run to end, and the run's own last update shows that it has: updates of one event arrive in
    order, those of two might not (which is why Gradio's `cancels` isn't used).
    """

    def __init__(self, text: str, concurrency: Mapping[str, object] = MappingProxyType(CONCURRENCY)) -> None:
        """
        Args:
            concurrency: how many runs at once, and with which others together
        """
        self._concurrency = concurrency
        with gr.Row():
            self.start = gr.Button(label(text), variant="primary", elem_classes="start", scale=3, min_width=120)
            self.stop = gr.Button(label("stop"), elem_classes="stop", interactive=False, scale=1, min_width=80)
        self._runs: dict[str, Run] = {}
        _everywhere.add(self)

    def connect(
        self,
        triggers: Sequence[Callable],
        function: Callable[..., Iterator[tuple]],
        inputs: Sequence,
        outputs: Sequence,
    ) -> None:
        """Runs a generator function on any of the triggers, until it is done or Stop is pressed.

        Args:
            triggers: events such as `button.click`
            function: takes the request, the run and the inputs, yields values for the outputs; it
                ends soon after the run's `stop_asked` is set
        """

        def run(request: gr.Request, *values) -> Iterator[tuple]:
            me = Run()
            self._end(request.session_hash)
            self._runs[request.session_hash] = me
            nothing = [gr.skip() for _ in outputs]
            try:
                yield (*nothing, *_BUSY)
                for update in function(request, me, *values):
                    yield (*update, *_BUSY)
            except Exception:
                yield (*nothing, *_IDLE)  # whatever went wrong, the visitor can start again
                raise
            finally:
                me.ended.set()
                newer = self._runs.get(request.session_hash) is not me
                if not newer:
                    del self._runs[request.session_hash]
            yield (*nothing, *(_BUSY if newer else _IDLE))

        for trigger in triggers:
            both = [*outputs, self.start, self.stop]
            trigger(run, list(inputs), both, show_progress="hidden", api_visibility="private", **self._concurrency)
        self.stop.click(self._ask_to_stop, **QUIETLY)

    def instead(self, trigger: Callable, function: Callable, inputs: Sequence, outputs: Sequence) -> None:
        """On the trigger a run is ended and what it wrote since is dropped; then the function's values are shown."""

        def end_and_call(request: gr.Request, *values) -> object:
            self._end(request.session_hash)
            return function(*values)

        trigger(end_and_call, list(inputs), list(outputs), **QUIETLY)

    def _ask_to_stop(self, request: gr.Request) -> None:
        if run := self._runs.get(request.session_hash):
            run.stop_asked.set()

    def discard(self, session: str) -> Run | None:
        """Asks a visitor's run to end, and drops what it has made; the run, if there is one."""
        if run := self._runs.get(session):
            run.discarded = True
            run.stop_asked.set()
        return run

    def _end(self, session: str) -> None:
        if run := self.discard(session):
            run.ended.wait(_LONGEST_STEP_SECONDS)


_everywhere: WeakSet[RunButtons] = WeakSet()


def discard_runs(session: str) -> None:
    """For a visitor who has left: nobody wants what their runs would find."""
    for buttons in list(_everywhere):
        buttons.discard(session)


_BUSY = (gr.update(interactive=False), gr.update(interactive=True))
_IDLE = (gr.update(interactive=True), gr.update(interactive=False))


def result_box(title: str, placeholder: str, lines: int, most_lines: int, elem_id: str) -> gr.Textbox:
    """Where a text appears while it is written.

    Not read-only: Gradio disables a read-only box, and the keyboard couldn't reach it.
    """
    return gr.Textbox(
        lines=lines,
        max_lines=most_lines,
        label=label(title),
        placeholder=label(placeholder),
        buttons=["copy"],
        interactive=True,
        elem_id=elem_id,
    )


def examples(rows: Sequence[Sequence[str]], inputs: Sequence[gr.components.Component]) -> None:
    """A button an example; it shows the first field and fills all inputs.

    (Gradio's own Examples can't translate its headings, and fails in a tab that isn't open.)
    """
    with gr.Column(elem_classes="examples"):
        gr.Markdown(label("examples"), elem_classes="examples-title")
        with gr.Row(elem_classes="examples-row"):
            for row in rows:
                button = gr.Button(row[0].strip().replace("\n", " "), size="sm", elem_classes="example", min_width=60)
                button.click(_filler(row), outputs=list(inputs), **QUIETLY)


def _filler(row: Sequence[str]) -> Callable:
    return lambda: row[0] if len(row) == 1 else tuple(row)
