"""Shows a text while it is being written, with its figures."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from html import escape
from time import monotonic

import gradio as gr

from gpt_tasks.backbone.generate import Event, Generated, Piece, Reading
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.prompt import Notice
from gpt_tasks.ui.controls import Run
from gpt_tasks.ui.texts import explain, say

_SECONDS_BETWEEN_UPDATES = 0.05  # the eye needs no more, and each update costs the server a millisecond


def stream(
    events: Iterator[Event], notices: Sequence[Notice], request: gr.Request, run: Run
) -> Iterator[tuple[str, str]]:
    """The text so far and its figures as HTML, again and again, until the text is complete or the run
    is asked to stop. Who stops iterating stops the computation too.
    """
    noticed = "".join(notice_line(say(request, notice.key, **notice.values)) for notice in notices)
    text, shown_at, began, figures = "", monotonic(), monotonic(), ""
    with closing(events):
        for event in events:
            if run.stop_asked.is_set():
                if not run.discarded:
                    yield text, noticed + figures + chips([say(request, "ended_stopped")])
                return
            if isinstance(event, Reading):
                figures = chips([say(request, "reading", done=event.done, total=event.total)])
                if event.done > 0:
                    yield text, noticed + figures
            elif isinstance(event, Piece):
                text += event.text
                if event.new_tokens == 1:
                    began = monotonic()
                figures = chips(_running_figures(event, began, request))
                if monotonic() - shown_at >= _SECONDS_BETWEEN_UPDATES:
                    shown_at = monotonic()
                    yield text, noticed + figures
            else:
                yield event.text, noticed + chips(_final_figures(event, request))


def error_line(error: UserError, request: gr.Request) -> str:
    """An error where the figures would be, so that it stays until the next try."""
    return _line("error", explain(request, error))


def notice_line(text: str) -> str:
    return _line("notice", text)


def windows_notice(windows: int, request: gr.Request) -> str:
    """That a text was longer than what is read at once, where it was."""
    return notice_line(say(request, "read_in_windows", windows=windows)) if windows > 1 else ""


def _running_figures(event: Piece, began: float, request: gr.Request) -> list[str]:
    figures = [say(request, "figure_new", tokens=event.new_tokens)]
    if event.new_tokens > 1:
        speed = round((event.new_tokens - 1) / (monotonic() - began))
        figures.append(say(request, "figure_speed", speed=speed))
    return figures


def _final_figures(result: Generated, request: gr.Request) -> list[str]:
    prompt = "figure_prompt_reused" if result.reused_tokens else "figure_prompt"
    figures = [
        say(request, "figure_first", milliseconds=round(result.time_to_first_token_ms)),
        say(request, prompt, tokens=result.prompt_tokens, reused=result.reused_tokens),
        say(request, "figure_new", tokens=result.new_tokens),
    ]
    if result.new_tokens > 1:
        figures.insert(1, say(request, "figure_speed", speed=round(result.tokens_per_second)))
    return [*figures, say(request, f"ended_{result.stop_reason}")]


def chips(texts: Sequence[str]) -> str:
    """Figures in a row."""
    return f'<div class="figures">{"".join(f"<span>{escape(text)}</span>" for text in texts)}</div>'


def _line(kind: str, text: str) -> str:
    role = "alert" if kind == "error" else "status"
    return f'<div class="{kind}-line" role="{role}">{escape(text)}</div>'
