"""The banner that says how far the model is, until it is ready."""

from html import escape

import gradio as gr

from gpt_tasks.backbone.backbone import BackboneInBackground
from gpt_tasks.progress import Progress
from gpt_tasks.ui.texts import explain, label, say

_SECONDS_BETWEEN_LOOKS = 0.5


def build(background: BackboneInBackground) -> None:
    banner = gr.HTML(elem_id="status")
    retry = gr.Button(label("retry"), visible=False, size="sm", elem_id="retry")
    timer = gr.Timer(_SECONDS_BETWEEN_LOOKS)

    def look(request: gr.Request) -> tuple:
        failed = background.error is not None
        waiting = background.backbone is None and not failed
        if failed:
            html = _failure(explain(request, background.error), request)
        else:
            html = _bar(background.progress, request) if waiting else ""
        return gr.update(value=html, visible=bool(html)), gr.update(visible=failed), gr.update(active=waiting)

    def again(request: gr.Request) -> tuple:
        background.start()
        return look(request)

    outputs = [banner, retry, timer]
    quietly = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    timer.tick(look, None, outputs, **quietly)
    retry.click(again, None, outputs, **quietly)


def _bar(progress: Progress, request: gr.Request) -> str:
    what = say(request, f"status_{progress.stage}", detail=progress.detail)
    share = f'value="{progress.done}" max="{progress.total}"' if progress.total else ""
    figures = ""
    if progress.unit == "bytes":
        figures = f"{progress.done / 10**6:.0f} / {progress.total / 10**6:.0f} MB"
        if progress.per_second:
            figures += f" · {progress.per_second / 10**6:.1f} MB/s"
    elif progress.total:
        figures = f"{progress.done} / {progress.total}"
    return (
        f'<div class="status-box" role="status"><div class="status-text"><strong>{escape(what)}</strong>'
        f"<span>{escape(figures)}</span></div><progress {share}></progress>"
        f'<div class="status-hint">{escape(say(request, "status_first_time"))}</div></div>'
    )


def _failure(reason: str, request: gr.Request) -> str:
    return (
        f'<div class="status-box failed" role="alert"><strong>{escape(say(request, "status_failed"))}</strong>'
        f"<div>{escape(reason)}</div></div>"
    )
