"""Start and Stop, without a browser."""

from types import SimpleNamespace

import gradio as gr
import pytest

from gpt_tasks.ui.controls import RunButtons


def test_whatever_goes_wrong_a_visitor_can_start_again():
    def failing(request, run):
        yield ("half",)
        raise RuntimeError("out of memory")

    with gr.Blocks() as page:
        buttons, box = RunButtons("compress"), gr.Textbox()
        buttons.connect([buttons.start.click], failing, [], [box])
    started = next(event.fn for event in page.fns.values() if event.fn.__name__ == "run")
    updates = started(SimpleNamespace(session_hash="someone"))
    assert next(updates)[1]["interactive"] is False
    assert next(updates)[0] == "half"
    assert next(updates)[1]["interactive"] is True
    with pytest.raises(RuntimeError, match="out of memory"):
        next(updates)
